import numpy as np
import pytest
from support.worlds import BRIDGE, libero_sample, needs_libero, simulation, tabletop

from vla_bench import catalog
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode

SAMPLE = [BRIDGE, *libero_sample()]


def snapshot(sim):
    return sim.observe(privileged=True).state


def begin(task_id):
    sim = simulation(task_id)
    sim.reset(Episode(task_id, seed=0))
    return sim


@pytest.mark.parametrize("task_id", SAMPLE)
def test_a_snapshot_is_the_world_at_the_instant_of_observation(task_id):
    sim = begin(task_id)
    state = snapshot(sim)
    assert set(state.entities) == set(sim.scene.items)
    assert state.time_ns == 0
    assert state.goal == sim.scene.problem.goal
    assert state.satisfied == sim.satisfied
    for name, entity in state.entities.items():
        body = sim.data.body(f"{name}_main")
        assert entity.pos == pytest.approx(body.xpos, abs=1e-12)
        assert entity.mat == pytest.approx(body.xmat.reshape(3, 3), abs=1e-12)
    for name, region in state.regions.items():
        assert region.pos == pytest.approx(sim.data.site(name).xpos, abs=1e-12)
        assert region.parent is None or region.parent in state.entities
    for _ in range(3):
        sim.tick(np.array([0.5, 0.2, -0.3, 0.1, 0, 0.2, 1]))
    seen = sim.observe(privileged=True)
    assert seen.state.grip_pos == pytest.approx(seen.proprio["robot0_eef_pos"], abs=1e-9)
    assert seen.state.time_ns == seen.time_ns == 3 * sim.task.tick_ns


def test_a_snapshot_does_not_follow_the_simulation():
    sim = begin(BRIDGE)
    state = snapshot(sim)
    kept = (
        state.grip_pos.copy(),
        state.entities["carrot_1"].pos.copy(),
        state.entities["carrot_1"].boxes.pos.copy(),
    )
    sim.data.joint("carrot_1_joint0").qpos[0] += 0.3
    for _ in range(5):
        sim.tick(np.ones(7))
    snapshot(sim)
    now = state.grip_pos, state.entities["carrot_1"].pos, state.entities["carrot_1"].boxes.pos
    assert all(map(np.array_equal, kept, now))


def test_looking_at_the_state_does_not_touch_it():
    sim = begin(BRIDGE)
    before = sim.data.qpos.tobytes(), sim.data.xpos.tobytes(), sim.data.qacc_warmstart.tobytes()
    snapshot(sim)
    assert (sim.data.qpos.tobytes(), sim.data.xpos.tobytes(), sim.data.qacc_warmstart.tobytes()) == before


@pytest.mark.parametrize("task_id", SAMPLE)
def test_boxes_are_oriented_and_lie_about_their_thing(task_id):
    sim = begin(task_id)
    for entity in snapshot(sim).entities.values():
        boxes = entity.boxes
        n = len(boxes.link)
        assert n > 0, entity.name
        assert (boxes.pos.shape, boxes.mat.shape, boxes.half.shape) == ((n, 3), (n, 3, 3), (n, 3))
        assert (boxes.half > 0).all()
        assert boxes.mat @ boxes.mat.transpose(0, 2, 1) == pytest.approx(np.array([np.eye(3)] * n), abs=1e-9)
        corners = boxes.corners()
        assert corners.shape == (n, 8, 3)
        assert corners.mean(axis=1) == pytest.approx(boxes.pos)
        assert np.abs(corners - entity.pos).max() < 1.0, entity.name


def test_a_box_of_a_known_thing_has_its_size(tmp_path):
    sim = MujocoSimulation(tabletop(tmp_path))
    sim.reset(Episode(BRIDGE, seed=0))
    plate = snapshot(sim).entities["plate_1"]
    assert (plate.category, plate.movable, dict(plate.joints)) == ("dinner_plate", True, {})
    ranges = np.ptp(plate.boxes.corners().reshape(-1, 3), axis=0)
    body = sim.model.body("plate_1_main").id
    geoms = np.flatnonzero(sim.model.geom_bodyid == body)
    solid = [g for g in geoms if sim.model.geom_group[g] == 0]
    reach = max(np.linalg.norm(sim.model.geom_pos[g, :2]) for g in solid)
    assert 2 * reach < ranges[0] < 2 * reach + 0.1


@needs_libero
def test_joints_of_fixtures_are_told_with_axis_limits_and_what_they_move():
    task = catalog.task("libero_goal/0")
    sim = begin(task.id)
    cabinet = snapshot(sim).entities["wooden_cabinet_1"]
    assert not cabinet.movable
    assert {joint.kind for joint in cabinet.joints.values()} == {"slide"}
    middle = cabinet.joints["wooden_cabinet_1_middle_level"]
    assert middle.limits == (pytest.approx(-0.16), pytest.approx(0.01))
    before = snapshot(sim)
    sim.data.joint("wooden_cabinet_1_middle_level").qpos[0] -= 0.1
    sim.tick(None)
    after = snapshot(sim)
    moved = (
        after.regions["wooden_cabinet_1_middle_region"].pos
        - before.regions["wooden_cabinet_1_middle_region"].pos
    )
    assert np.linalg.norm(moved) == pytest.approx(0.1, abs=0.01)
    assert abs(moved @ middle.axis) == pytest.approx(np.linalg.norm(moved), rel=0.01)
    assert after.regions["wooden_cabinet_1_middle_region"].joints == ("wooden_cabinet_1_middle_level",)
    assert middle.link in set(cabinet.boxes.link)
