from dataclasses import replace

import numpy as np
import pytest

from vla_bench.policy.scripted.geometry import UP, rotation
from vla_bench.policy.scripted.world import Clouds, World

PERIOD_NS = 200_000_000
CUBE = [((0.3, 0.1, 0.02), (0.02, 0.02, 0.02))]


def moved(state, speed, turn=0.0, periods=1):
    """The snapshot some periods later, its thing going along x (m/s) and turning (rad a period)."""
    thing = state.entities["thing"]
    pos = thing.pos + np.array([speed * periods * PERIOD_NS * 1e-9, 0.0, 0.0])
    later = replace(thing, pos=pos, mat=rotation(UP, turn * periods))
    return replace(state, time_ns=periods * PERIOD_NS, entities={"thing": later})


@pytest.mark.parametrize("speed", [-0.1, 0.01, 0.05])
def test_what_goes_on_evenly_is_where_it_was_expected(make_solid, make_state, speed):
    start = make_state(make_solid("thing", CUBE))
    now, later = (moved(start, speed, 0.06, periods) for periods in (1, 2))
    pos, mat = World(now, Clouds(), start).ahead("thing")
    np.testing.assert_allclose(pos, later.entities["thing"].pos, atol=1e-12)
    np.testing.assert_allclose(mat, later.entities["thing"].mat, atol=1e-12)


@pytest.mark.parametrize("speed", [0.0, 0.002, 1.0])
def test_what_trembles_or_falls_is_expected_where_it_is(make_solid, make_state, speed):
    start = make_state(make_solid("thing", CUBE))
    now = moved(start, speed)
    world = World(now, Clouds(), start)
    assert not world.moves("thing")
    np.testing.assert_array_equal(world.ahead("thing")[0], now.entities["thing"].pos)


def test_without_a_past_nothing_moves(make_solid, make_state):
    start = make_state(make_solid("thing", CUBE))
    assert not World(start, Clouds()).moves("thing")
    assert not World(start, Clouds(), start).moves("thing")
