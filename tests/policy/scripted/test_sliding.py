import numpy as np
import pytest

from vla_bench.policy.scripted.motion import CLOSE
from vla_bench.policy.scripted.sliding import Sliding, slides
from vla_bench.policy.scripted.world import Clouds, World
from vla_bench.types import Predicate, RegionState

LITERAL = Predicate("on", ("plate", "spot"))


def region(parent=None):
    return RegionState("spot", np.array([0.1, 0.2, 0.0]), np.eye(3), np.full(3, 0.04), parent, ())


def world(
    make_solid, make_state, half, *, parent=None, floor=(0.3, 0.0), satisfied=False, grip=(0.0, 0.0, 0.3)
):
    plate = make_solid("plate", [((0.0, 0.0, half[2]), half)])
    other = make_solid("other", [((*floor, 0.02), (0.02, 0.02, 0.02))])
    state = make_state(
        plate, other, goal=[LITERAL], satisfied=[satisfied], regions=[region(parent)], grip=grip
    )
    return World(state, Clouds())


@pytest.mark.parametrize(
    ("half", "parent", "towed"),
    [
        ((0.08, 0.08, 0.008), None, True),
        ((0.08, 0.03, 0.008), None, False),  # can be held across
        ((0.08, 0.08, 0.05), None, False),  # would tip over
        ((0.08, 0.08, 0.008), "other", False),  # shall lie on a thing, not on the workspace
    ],
)
def test_what_is_flat_and_wide_is_towed_over_the_workspace(make_solid, make_state, half, parent, towed):
    assert slides(world(make_solid, make_state, half, parent=parent), LITERAL) is towed


def test_only_what_shall_lie_there_is_towed(make_solid, make_state):
    here = world(make_solid, make_state, (0.08, 0.08, 0.008))
    assert not slides(here, Predicate("in", ("plate", "spot")))
    assert not slides(here, Predicate("on", ("plate", "other")))


def test_closed_fingers_come_down_on_the_middle_then_press_and_pull(make_solid, make_state, arm):
    above = world(make_solid, make_state, (0.08, 0.08, 0.008))
    skill = Sliding(LITERAL, arm)
    motion = skill.step(above)
    assert motion is not None
    assert skill.phase == "approach"
    assert motion.grip == CLOSE
    down = skill._start.pos
    np.testing.assert_allclose(down[:2], 0.0, atol=1e-9)
    pressed = skill.step(world(make_solid, make_state, (0.08, 0.08, 0.008), grip=down))
    assert pressed is not None
    assert skill.phase == "tow"
    way = pressed.pose.pos - down
    assert way[2] < 0
    np.testing.assert_allclose(way[:2] / np.linalg.norm(way[:2]), np.array([1.0, 2.0]) / 5**0.5, atol=1e-6)


def test_a_thing_that_is_there_is_left_alone(make_solid, make_state, arm):
    assert (
        Sliding(LITERAL, arm).step(world(make_solid, make_state, (0.08, 0.08, 0.008), satisfied=True)) is None
    )
