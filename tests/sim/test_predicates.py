import mujoco
import numpy as np
import pytest
from support.worlds import APART, BRIDGE, needs_libero, simulation, tabletop

from vla_bench import catalog
from vla_bench.bddl import PREDICATES, read_problem
from vla_bench.errors import DataError
from vla_bench.sim.placement import PLACEMENTS
from vla_bench.sim.predicates import Predicates
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.sim.tabletop import TabletopPredicates
from vla_bench.types import Episode, Predicate

MIDDLE = "wooden_cabinet_1_middle_"


@pytest.fixture
def sim():
    sim = simulation(BRIDGE)
    sim.reset(Episode(BRIDGE, seed=0))
    return sim


def put(sim, name, pos):
    """Set an object down, lying flat, and compute contacts."""
    sim.data.joint(f"{name}_joint0").qpos[:] = [*pos, 1, 0, 0, 0]
    mujoco.mj_forward(sim.model, sim.data)


def truth(sim, name, *args, meaning=Predicates):
    return meaning(sim.scene, sim.model, sim.data).compile(Predicate(name, args))()


def resting_height(sim):
    """Height of the carrot's origin over the plate's when it touches it."""
    plate = sim.data.body("plate_1_main").xpos.copy()
    for height in np.arange(0.05, 0.0, -0.0005):
        put(sim, "carrot_1", plate + np.array([0, 0, height]))
        if truth(sim, "on", "carrot_1", "plate_1"):
            return height
    raise AssertionError("the carrot never touches the plate")


def test_on_an_object_is_near_above_and_touching(sim):
    plate = sim.data.body("plate_1_main").xpos.copy()
    resting = plate + np.array([0, 0, resting_height(sim)])
    for offset, expected in (
        ((0, 0, 0), True),
        ((0.02, 0.02, 0), True),
        ((0.025, 0.025, 0), False),
        ((0, 0, 0.02), False),
    ):
        put(sim, "carrot_1", resting + offset)
        assert truth(sim, "on", "carrot_1", "plate_1") is expected, offset
    put(sim, "carrot_1", resting)
    assert truth(sim, "on", "plate_1", "carrot_1") is False, "what is below is not on it"


def test_on_a_zone_is_inside_its_rectangle_at_its_height(sim):
    site = sim.data.site("main_table_left_region")
    half = sim.model.site("main_table_left_region").size
    for offset, expected in (
        ((0, 0, 0.02), True), ((half[0] - 0.001, 0, 0.02), True), ((half[0] + 0.001, 0, 0.02), False),
        ((0, -half[1] - 0.001, 0.02), False), ((0, 0, 0.2), False), ((0, 0, -0.02), False),
    ):  # fmt: skip
        put(sim, "carrot_1", site.xpos + offset)
        assert truth(sim, "on", "carrot_1", "main_table_left_region") is expected, offset


def test_in_a_region_is_inside_its_box_whose_floor_counts_10_mm_lower(sim):
    site = sim.data.site("main_table_left_region")
    half = sim.model.site("main_table_left_region").size
    for offset, expected in (
        ((0, 0, 0), True), ((0, 0, half[2] + 0.001), False), ((0, 0, -half[2] - 0.009), True),
        ((0, 0, -half[2] - 0.011), False), ((half[0] + 0.001, 0, 0), False),
    ):  # fmt: skip
        put(sim, "carrot_1", site.xpos + offset)
        assert truth(sim, "in", "carrot_1", "main_table_left_region") is expected, offset


def test_up_is_a_height(sim):
    for z, expected in ((0.999, False), (1.001, True)):
        put(sim, "carrot_1", [0, 0, z])
        assert truth(sim, "up", "carrot_1") is expected


def test_on_a_tabletop_object_is_within_its_radius_and_on_nothing_else(sim):
    plate, radius = sim.data.body("plate_1_main").xpos.copy(), sim.scene.items["plate_1"].radius
    resting = plate + np.array([0, 0, resting_height(sim)])
    put(sim, "carrot_1", resting + np.array([0.5 * radius, 0, 0]))
    assert truth(sim, "on", "carrot_1", "plate_1") is False, "LIBERO's radius is 30 mm"
    assert truth(sim, "on", "carrot_1", "plate_1", meaning=TabletopPredicates) is True
    for offset in ([0, 0, 0.02], [radius + 0.08, 0, 0]):
        put(sim, "carrot_1", resting + np.array(offset))
        assert truth(sim, "on", "carrot_1", "plate_1", meaning=TabletopPredicates) is False, offset


def lie(sim, name, pos, tilt):
    """Set an object down, tilted by so many degrees about its y axis."""
    half = np.radians(tilt) / 2
    sim.data.joint(f"{name}_joint0").qpos[:] = [*pos, np.cos(half), 0, np.sin(half), 0]
    mujoco.mj_forward(sim.model, sim.data)


def test_toppled_is_lying_on_the_workspace(sim):
    low = np.array([-0.1, 0.2, sim.scene.place.offset[2] + 0.02])
    for tilt, expected in ((0, False), (55, False), (65, True), (90, True), (180, False)):
        lie(sim, "carrot_1", low, tilt)
        assert truth(sim, "toppled", "carrot_1") is expected, tilt
    lie(sim, "carrot_1", low + np.array([0, 0, 0.2]), 90)
    assert truth(sim, "toppled", "carrot_1") is False, "in the air it has not fallen yet"


def test_near_is_on_the_workspace_with_at_most_8_cm_between(sim):
    plate, items = sim.data.body("plate_1_main").xpos.copy(), sim.scene.items
    reach = items["carrot_1"].radius + items["plate_1"].radius + 0.08
    down = sim.scene.place.offset[2] - items["carrot_1"].bottom - plate[2] - 0.0005
    for away, height, expected in (
        (reach - 0.002, 0, True),
        (reach + 0.002, 0, False),
        (reach - 0.02, 0.1, False),
    ):
        put(sim, "carrot_1", plate + np.array([0, away, down + height]))
        assert truth(sim, "near", "carrot_1", "plate_1") is expected, (away, height)


def test_poured_is_in_a_region_and_not_in_the_hand(sim):
    site = sim.data.site("main_table_left_region")
    put(sim, "carrot_1", site.xpos)
    assert truth(sim, "poured", "carrot_1", "main_table_left_region") is True
    beside_a_finger = sim.data.site("gripper0_grip_site").xpos + np.array([0, 0.01, 0])
    put(sim, "carrot_1", beside_a_finger)
    site.xpos[:] = beside_a_finger  # until the next step
    assert truth(sim, "in", "carrot_1", "main_table_left_region") is True
    assert truth(sim, "poured", "carrot_1", "main_table_left_region") is False


@pytest.mark.parametrize("meaning", [Predicates, TabletopPredicates])
def test_every_predicate_of_task_files_has_a_meaning(sim, meaning):
    """It compiles, or says why it cannot: no predicate is known to the reader alone."""
    for name, count in PREDICATES.items():
        for args in (("carrot_1", "plate_1"), ("carrot_1", "main_table_left_region")):
            try:
                assert truth(sim, name, *args[:count], meaning=meaning) in (True, False)
            except DataError as error:
                assert f"cannot evaluate {name}(" in str(error)  # noqa: PT017


def test_a_goal_that_nothing_decides_is_refused_with_its_line(tmp_path):
    for goal, message in (
        (
            "(Open carrot_1)",
            r"own\.bddl:11: cannot evaluate open\(carrot_1\): 'carrot_1' has no joint that decides it",
        ),
        ("(In carrot_1 plate_1)", r":11: cannot evaluate in\(carrot_1, plate_1\): 'plate_1' is not a region"),
        (
            "(On carrot_1 main_table)",
            r":11: cannot evaluate on\(.*\): 'main_table' is not an object or fixture",
        ),
    ):
        with pytest.raises(DataError, match=message):
            MujocoSimulation(tabletop(tmp_path, goal=goal, init=APART))


def test_score_and_stages_follow_the_literals_of_a_goal(tmp_path):
    sim = MujocoSimulation(
        tabletop(tmp_path, goal="(On carrot_1 plate_1) (On plate_1 main_table_right_region)")
    )
    sim.reset(Episode(BRIDGE, seed=0))
    for _ in range(20):
        sim.tick(np.zeros(7))
    assert (sim.score, sim.stages, sim.succeeded) == (0.5, ("on(plate_1, main_table_right_region)",), False)


# ── LIBERO's states ────────────────────────────────────────────────────────────────────────────────────


def libero_tasks_with_states():
    """One LIBERO task for each kind of initial state that is not a place."""
    found = {}
    for suite in catalog.suites().values():
        for stem in suite.stems() if suite.needs_libero else ():
            task = suite.task(stem)
            problem = read_problem(task.bddl)
            for literal in problem.init:
                if literal.name not in PLACEMENTS:
                    found.setdefault((literal.name, literal.args), task.id)
    return sorted(set(found.values()))


@needs_libero
def test_what_the_initial_state_says_is_so():
    tasks = libero_tasks_with_states()
    assert len(tasks) > 5
    for task_id in tasks:
        sim = MujocoSimulation(catalog.task(task_id))
        stated = [literal for literal in sim.scene.problem.init if literal.name not in PLACEMENTS]
        for seed in (0, 1):
            sim.reset(Episode(task_id, seed=seed))
            for literal in stated:
                assert truth(sim, literal.name, *literal.args), (task_id, literal)


@needs_libero
@pytest.mark.parametrize(
    ("task_id", "joint", "literal", "true_at", "false_at"),
    [
        ("libero_goal/0", f"{MIDDLE}level", ("open", f"{MIDDLE}region"), -0.15, -0.1),
        ("libero_goal/0", f"{MIDDLE}level", ("close", f"{MIDDLE}region"), 0.001, -0.02),
        ("libero_goal/7", "flat_stove_1_button", ("turnon", "flat_stove_1"), 0.6, 0.4),
        ("libero_goal/7", "flat_stove_1_button", ("turnoff", "flat_stove_1"), -0.001, 0.1),
        ("libero_10/9", "microwave_1_microjoint", ("open", "microwave_1"), -1.9, -1.2),
        ("libero_10/9", "microwave_1_microjoint", ("close", "microwave_1"), 0.0, -0.1),
    ],
)  # fmt: skip
def test_open_closed_and_on_are_ranges_of_a_joint(task_id, joint, literal, true_at, false_at):
    sim = simulation(catalog.task(task_id).id)
    sim.reset(Episode(sim.task.id, seed=0))
    for value, expected in ((true_at, True), (false_at, False)):
        sim.data.joint(joint).qpos[0] = value
        assert truth(sim, *literal) is expected


@needs_libero
def test_in_a_basket_is_inside_its_region():
    sim = simulation(catalog.task("libero_object/0").id)
    sim.reset(Episode(sim.task.id, seed=0))
    (literal,) = sim.scene.problem.goal
    thing, region = literal.args
    for offset, expected in (((0, 0, 0), True), ((0.3, 0, 0), False)):
        put(sim, thing, sim.data.site(region).xpos + offset)
        assert truth(sim, literal.name, thing, region) is expected
