"""Literals of built-in tasks, and partial credit."""

from __future__ import annotations

import numpy as np
import pytest

from vla_bench import catalog
from vla_bench.errors import DataError
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.sim.tabletop import TabletopPredicates
from vla_bench.types import Episode, Predicate

STILL = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])


def started(name: str, seed: int = 0) -> MujocoSimulation:
    simulation = MujocoSimulation(catalog.task(name))
    simulation.reset(Episode(simulation.task.id, seed=seed))
    wait(simulation, 0.4)
    return simulation


def wait(simulation: MujocoSimulation, seconds: float, command: np.ndarray | None = None) -> None:
    for tick in range(round(seconds / simulation.task.tick_s)):
        simulation.tick(command if tick == 0 else None)


def put(simulation: MujocoSimulation, name: str, pos, quat=(1.0, 0.0, 0.0, 0.0)) -> None:
    """Set the pose of an object, at rest."""
    joint = simulation.data.joint(f"{name}_joint0")
    joint.qpos[:], joint.qvel[:] = [*pos, *quat], 0.0


def holds(simulation: MujocoSimulation, name: str, *args: str) -> bool:
    literal = Predicate(name, args)
    return TabletopPredicates(simulation.scene, simulation.model, simulation.data).compile(literal)()


def origin(simulation: MujocoSimulation, name: str, *shift: float) -> np.ndarray:
    """Position of an object, or a place at an offset (x, y, z) from it."""
    return simulation.data.body(f"{name}_main").xpos + np.array(shift or (0.0, 0.0, 0.0))


def test_on_an_object_is_anywhere_within_it_and_not_beside_it():
    simulation = started("bridge_base/put_the_carrot_on_the_plate")
    plate = origin(simulation, "plate_1")
    assert not holds(simulation, "on", "carrot_1", "plate_1")
    put(simulation, "carrot_1", plate + np.array([0.0, 0.05, 0.022]))
    wait(simulation, 0.4, STILL)
    assert holds(simulation, "on", "carrot_1", "plate_1")
    # One end on the rim, the other on the table.
    put(simulation, "carrot_1", plate + np.array([0.10, 0.0, 0.030]))
    wait(simulation, 0.6)
    assert not holds(simulation, "on", "carrot_1", "plate_1")


def test_something_in_the_air_above_a_plate_is_not_on_it():
    simulation = started("bridge_base/put_the_carrot_on_the_plate")
    put(simulation, "carrot_1", origin(simulation, "plate_1", 0.0, 0.0, 0.10))
    simulation.tick(None)
    assert not holds(simulation, "on", "carrot_1", "plate_1")


@pytest.mark.parametrize("thing", ["eggplant_1", "red_bottle_1"])
def test_what_was_let_fall_into_a_pot_is_in_it(thing):
    simulation = started("bridge/put_eggplant_into_pot")
    assert not holds(simulation, "in", thing, "pot_1_inside")
    put(simulation, thing, origin(simulation, "pot_1", 0.0, 0.0, 0.05))
    wait(simulation, 1.0)
    assert holds(simulation, "in", thing, "pot_1_inside")
    assert not holds(simulation, "outof", thing, "pot_1_inside")


def test_out_of_the_pot_is_neither_in_it_nor_on_its_rim():
    simulation = started("bridge/purple_grapes_out_of_pot")
    pot = origin(simulation, "pot_1")
    assert not holds(simulation, "outof", "grapes_1", "pot_1_inside")
    put(simulation, "grapes_1", pot + np.array([0.0, 0.0, 0.15]))
    simulation.tick(None)
    assert holds(simulation, "outof", "grapes_1", "pot_1_inside")
    put(simulation, "grapes_1", pot + np.array([0.086, 0.0, 0.05]))
    wait(simulation, 0.1)
    assert not holds(simulation, "outof", "grapes_1", "pot_1_inside")


@pytest.mark.parametrize(
    ("degrees", "expected"), [(0, True), (10, True), (20, False), (90, False), (180, False)]
)
def test_upright_is_within_fifteen_degrees(degrees, expected):
    simulation = started("bridge/flip_pot_upright")
    half = np.radians(degrees) / 2
    put(simulation, "pot_1", (0.0, 0.0, 1.2), (np.cos(half), 0.0, np.sin(half), 0.0))
    simulation.tick(None)
    assert holds(simulation, "upright", "pot_1") is expected


def test_a_pot_on_its_side_falls_upright_when_it_is_tipped_far_enough():
    simulation = started("bridge/flip_pot_upright")
    assert not holds(simulation, "upright", "pot_1")
    half = np.radians(90 - 40) / 2
    put(simulation, "pot_1", (-0.05, 0.0, 0.96), (np.cos(half), 0.0, np.sin(half), 0.0))
    wait(simulation, 1.5)
    assert holds(simulation, "upright", "pot_1")


def test_a_thing_in_the_air_that_nobody_holds_is_not_lifted():
    simulation = started("bridge/lift_cheese")
    put(simulation, "cheese_1", (0.0, 0.0, 1.2))
    simulation.tick(None)
    assert not holds(simulation, "lifted", "cheese_1")
    assert not holds(simulation, "held", "cheese_1")


@pytest.fixture(scope="module")
def gripped() -> MujocoSimulation:
    """The block between the closed fingers, in the air."""
    simulation = started("bridge/lift_cheese")
    grip = simulation.observe().proprio["robot0_eef_pos"]
    hold = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    for tick in range(60):
        if tick < 45:  # it floats there until the fingers have closed
            put(simulation, "cheese_1", grip, (np.cos(np.pi / 4), 0.0, 0.0, np.sin(np.pi / 4)))
        simulation.tick(hold if tick == 0 else None)
    return simulation


def test_lifted_is_in_the_hand_and_off_everything_else(gripped):
    assert holds(gripped, "held", "cheese_1")
    assert holds(gripped, "lifted", "cheese_1")
    assert not holds(gripped, "lifted", "chili_1")


def test_a_stage_stays_reached_and_counts_half():
    simulation = started("bridge/put_red_bottle_into_pot")
    assert (simulation.score, simulation.stages) == (0.0, ())
    simulation._judge._stage_log.reached = ("lifted",)  # what is reached is never taken back
    wait(simulation, 0.1)
    assert (simulation.score, simulation.stages) == (0.5, ("lifted",))
    simulation.reset(Episode(simulation.task.id, seed=0))
    assert (simulation.score, simulation.stages) == (0.0, ())


def test_success_needs_time_and_an_open_hand():
    simulation = started("bridge/put_red_bottle_into_pot")
    put(simulation, "red_bottle_1", origin(simulation, "pot_1", 0.0, 0.0, 0.04))
    shut = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    wait(simulation, 1.0, shut)
    assert all(simulation.satisfied)
    assert not simulation.succeeded
    wait(simulation, 0.36, STILL)
    assert not simulation.succeeded
    wait(simulation, 0.06)
    assert simulation.succeeded
    assert simulation.score == 1.0


def test_success_once_is_full_credit_for_the_episode():
    simulation = started("bridge/put_red_bottle_into_pot")
    put(simulation, "red_bottle_1", origin(simulation, "pot_1", 0.0, 0.0, 0.04))
    wait(simulation, 1.0, STILL)
    assert simulation.succeeded
    put(simulation, "red_bottle_1", (0.1, 0.0, 1.0))
    wait(simulation, 0.2)
    assert not simulation.succeeded
    assert simulation.score == 1.0


def test_a_literal_that_cannot_be_evaluated_is_named_with_its_line():
    simulation = started("bridge/lift_cheese")
    predicates = TabletopPredicates(simulation.scene, simulation.model, simulation.data)
    with pytest.raises(DataError, match=r"lift_cheese\.bddl:9.*in\(cheese_1, chili_1\).*not a region"):
        predicates.compile(Predicate("in", ("cheese_1", "chili_1"), line=9))
