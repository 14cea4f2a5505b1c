"""What physical factors do to the numbers that MuJoCo computes with."""

import xml.etree.ElementTree as ET

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.varied import episode, varied
from support.worlds import BRIDGE

from vla_bench.axes.factors import factors
from vla_bench.axes.shaping import distortion, scale_part
from vla_bench.axes.surface import lowest_point
from vla_bench.sim import categories
from vla_bench.sim.mjcf import Part


def body(simulation, name="carrot_1_main"):
    return simulation.current.model.body(name)


def nominal():
    simulation = varied(BRIDGE)
    simulation.reset(episode(BRIDGE))
    model = simulation.current.model
    return model.body("carrot_1_main").mass[0], model.body("carrot_1_main").inertia.copy(), simulation


@pytest.mark.parametrize("level", [1, 5])
def test_mass_and_inertia_scale_together_and_derived_numbers_follow(level):
    mass, inertia, simulation = nominal()
    weight = simulation.current.model.body_subtreemass[0]
    simulation.reset(episode(BRIDGE, f"physical.mass@{level}", 1))
    factor = simulation.drawn["physical.mass"]["factor"]
    assert factor in (
        pytest.approx(x := factors()["physical.mass"].values(level)["factor"]),
        pytest.approx(1 / x),
    )
    assert body(simulation).mass[0] == pytest.approx(mass * factor)
    np.testing.assert_allclose(body(simulation).inertia, inertia * factor)
    change = simulation.current.model.body_subtreemass[0] - weight
    assert change == pytest.approx(mass * (factor - 1)), "mj_setConst has run"


def test_size_scales_lengths_mass_and_inertia_by_their_powers():
    mass, inertia, simulation = nominal()
    ground = lowest_point(simulation.current, "carrot_1")
    simulation.reset(episode(BRIDGE, "physical.size@4", 2))
    factor = simulation.drawn["physical.size"]["factors"][0]
    assert body(simulation).mass[0] == pytest.approx(mass * factor**3)
    np.testing.assert_allclose(body(simulation).inertia, inertia * factor**5, rtol=1e-6)
    assert lowest_point(simulation.current, "carrot_1") == pytest.approx(ground + 0.001, abs=1e-6)


def test_proportions_keep_the_volume():
    mass, _, simulation = nominal()
    for seed in range(4):
        simulation.reset(episode(BRIDGE, "physical.proportions@5", seed))
        assert np.prod(simulation.drawn["physical.proportions"]["factors"]) == pytest.approx(1)
        assert body(simulation).mass[0] == pytest.approx(mass, rel=0.02)


def test_friction_lowers_what_the_fingers_feel():
    _, _, simulation = nominal()
    friction = simulation.current.model.geom_friction.copy()
    simulation.reset(episode(BRIDGE, "physical.friction@3"))
    np.testing.assert_allclose(simulation.current.model.geom_friction, friction * 0.55)


def extent(category, factors=None):
    """Size of the box around an object's model."""
    part = Part(categories.find(category).path)
    if factors is not None:
        scale_part(part, np.array(factors))
    model = mujoco.MjModel.from_xml_string(ET.tostring(part.root, encoding="unicode"))
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    turns = data.geom_xmat.reshape(-1, 3, 3)
    half = np.einsum("nij,nj->ni", np.abs(turns), model.geom_aabb[:, 3:])
    centre = data.geom_xpos + np.einsum("nij,nj->ni", turns, model.geom_aabb[:, :3])
    return (centre + half).max(axis=0) - (centre - half).min(axis=0)


OBJECTS = st.sampled_from(["carrot", "pot", "green_cup", "white_tape", "skull", "red_bottle", "drying_rack"])


@settings(max_examples=25, deadline=None)
@given(OBJECTS, st.floats(0.6, 1.6))
def test_an_object_that_is_scaled_evenly_is_as_large_as_that(category, factor):
    np.testing.assert_allclose(extent(category, [factor] * 3), extent(category) * factor, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(OBJECTS, st.floats(1.0, 1.6))
def test_the_best_axis_stretches_an_object_as_asked_and_keeps_round_things_round(category, factor):
    shapes = [[factor if a == axis else factor**-0.5 for a in range(3)] for axis in range(3)]
    part = Part(categories.find(category).path)
    best = min(shapes, key=lambda shape: distortion(part, np.array(shape)))
    allowed = distortion(part, np.array(best)) * 1.1 - 1
    np.testing.assert_allclose(extent(category, best), extent(category) * best, rtol=allowed)
