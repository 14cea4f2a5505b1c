import numpy as np
import pytest

from vla_bench.policy.scripted.placing import find_place
from vla_bench.policy.scripted.world import Clouds, World
from vla_bench.types import Predicate, RegionState

LITERAL = Predicate("outof", ("thing", "inside"))
WALLS = [((x, 0.2, 0.04), (0.004, 0.06, 0.04)) for x in (-0.06, 0.06)]
WALLS += [((0.0, y, 0.04), (0.06, 0.004, 0.04)) for y in (0.14, 0.26)]
INSIDE = RegionState("inside", np.array([0.0, 0.2, 0.04]), np.eye(3), np.array([0.06, 0.06, 0.04]), "pot", ())


@pytest.mark.parametrize("crowded", [False, True])
def test_what_is_taken_out_comes_to_lie_beside_on_the_floor(make_solid, make_state, arm, crowded):
    thing = make_solid("thing", [((0.0, 0.2, 0.25), (0.02, 0.02, 0.02))])
    entities = [thing, make_solid("pot", WALLS)]
    if crowded:
        entities.append(make_solid("block", [((0.0, 0.05, 0.03), (0.06, 0.04, 0.03))]))
    state = make_state(*entities, goal=[LITERAL], regions=[INSIDE], grip=(0.0, 0.2, 0.26))
    place = find_place(World(state, Clouds(), None), LITERAL, state.grip_mat, arm)
    assert place.origin[2] == pytest.approx(0.02, abs=0.02)
    for other in entities[1:]:
        low = other.boxes.corners()[..., :2].min(axis=(0, 1)) - 0.02
        high = other.boxes.corners()[..., :2].max(axis=(0, 1)) + 0.02
        assert not np.all((place.origin[:2] > low) & (place.origin[:2] < high))
    assert arm.strain(place.grip(World(state, Clouds(), None), "thing")) < 0.05
