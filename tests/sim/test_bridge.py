"""Laws of every task of the built-in suites, in simulation."""

from __future__ import annotations

import subprocess
import sys

import mujoco
import numpy as np
import pytest

from vla_bench import catalog
from vla_bench.bddl import read_problem
from vla_bench.policy.cards import load_policy
from vla_bench.run.rollout import Rollout, play
from vla_bench.sim.graphics import SceneRenderer
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode

TASKS = [
    suite.task(stem) for suite in map(catalog.suite, ("bridge_base", "bridge")) for stem in suite.stems()
]
SEEDS = range(3)
# Reachable from above with a hand that points down, and inside the table (m).
REACH_X, REACH_Y = (-0.30, 0.22), 0.32

every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)


@pytest.fixture(scope="module")
def simulations():
    """Simulations by task, each built once."""
    built: dict[str, MujocoSimulation] = {}

    def get(task) -> MujocoSimulation:
        if task.id not in built:
            built[task.id] = MujocoSimulation(task)
        return built[task.id]

    yield get
    for simulation in built.values():
        simulation.close()


def settle(simulation: MujocoSimulation, seed: int) -> None:
    task = simulation.task
    simulation.reset(Episode(task.id, seed=seed))
    for tick in range(task.settle_steps * task.ticks_per_step):
        simulation.tick(np.array(task.settle_action) if tick == 0 else None)


def movable(simulation: MujocoSimulation) -> dict[str, np.ndarray]:
    """Positions of what can be moved."""
    items = simulation.scene.items.values()
    return {i.name: simulation.data.body(i.body).xpos.copy() for i in items if i.movable}


@every_task
def test_objects_settle_without_penetration_and_stay(task, simulations):
    simulation = simulations(task)
    for seed in SEEDS:
        settle(simulation, seed)
        assert simulation.data.contact.dist.min() > -0.5e-3
        before = movable(simulation)
        for _ in range(100):
            simulation.tick(None)
        if simulation.scene.problem.moving:
            continue
        for name, pos in movable(simulation).items():
            assert np.linalg.norm(pos - before[name]) < 0.5e-3, name


@every_task
def test_objects_lie_within_reach_and_apart(task, simulations):
    simulation = simulations(task)
    top = simulation.scene.place.offset[2]
    for seed in SEEDS:
        settle(simulation, seed)
        for name, pos in movable(simulation).items():
            assert REACH_X[0] < pos[0] < REACH_X[1], name
            assert abs(pos[1]) < REACH_Y, name
            assert top < pos[2] < top + 0.12, name
        geoms = simulation.data.contact.geom
        touching = {frozenset(_owner(simulation, g) for g in pair) for pair in geoms}
        objects = set(movable(simulation))
        carried = {frozenset(p.args) for p in simulation.scene.problem.init}
        beside = {pair for pair in touching if len(pair & objects) == 2}
        allowed = {frozenset(_carrier(simulation, arg) for arg in pair) for pair in carried}
        assert beside <= allowed


def _owner(simulation: MujocoSimulation, geom: int) -> str:
    body = simulation.model.body(simulation.model.body_rootid[simulation.model.geom_bodyid[geom]])
    return body.name.removesuffix("_main")


def _carrier(simulation: MujocoSimulation, name: str) -> str:
    site = simulation.scene.sites.get(name)
    return name if site is None or site.parent is None else site.parent


@every_task
def test_the_goal_is_false_at_the_start_and_after_doing_nothing(task, simulations):
    run = Rollout(simulations(task), load_policy("noop"))
    outcome = play(run, Episode(task.id, seed=1), "blocking", 0)
    assert outcome["status"] == "failure", outcome
    assert outcome["score"] == 0.0
    assert outcome["stages"] == ()
    assert outcome["steps"] == 60


@every_task
def test_acting_at_random_does_not_reach_the_goal(task, simulations):
    for seed in (0, 1):
        run = Rollout(simulations(task), load_policy("random"))
        assert play(run, Episode(task.id, seed=seed), "blocking", seed)["status"] == "failure"


@every_task
def test_a_seed_fixes_the_initial_state(task, simulations):
    simulation = simulations(task)
    states = []
    for seed in (3, 4, 3):
        simulation.reset(Episode(task.id, seed=seed))
        states.append(simulation.data.qpos.tobytes())
    assert states[0] == states[2]
    assert states[0] != states[1]


def test_tasks_of_a_scene_share_their_initial_states(simulations):
    scenes: dict[str, set[bytes]] = {}
    for task in TASKS:
        scene = read_problem(task.bddl).scene
        if scene:
            simulation = simulations(task)
            simulation.reset(Episode(task.id, seed=5))
            picture = simulation.model.body_pos.tobytes() + simulation.data.qpos.tobytes()
            scenes.setdefault(f"{task.suite}/{scene}", set()).add(picture)
    assert len(scenes) >= 3
    assert all(len(states) == 1 for states in scenes.values())
    assert len(set.union(*scenes.values())) == len(scenes)


def test_another_process_draws_the_same_initial_state(simulations):
    task = catalog.task("bridge/put_eggplant_into_pot")
    code = (
        "from vla_bench import catalog; from vla_bench.types import Episode;"
        "from vla_bench.sim.simulation import MujocoSimulation;"
        f"s = MujocoSimulation(catalog.task({task.id!r}));"
        f"s.reset(Episode({task.id!r}, seed=7)); print(s.data.qpos.tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    simulation = simulations(task)
    simulation.reset(Episode(task.id, seed=7))
    assert done.stdout.strip() == simulation.data.qpos.tobytes().hex()


@every_task
def test_the_camera_sees_what_the_task_is_about(task, simulations):
    simulation = simulations(task)
    renderer = SceneRenderer(simulation.scene.picture_model())
    model, data = renderer.model, mujoco.MjData(renderer.model)
    for seed in SEEDS:
        settle(simulation, seed)
        model.body_pos[:], model.body_quat[:] = simulation.model.body_pos, simulation.model.body_quat
        data.qpos[:] = simulation.data.qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        seen = np.bincount(
            1 + renderer.segment(data, "agentview", 224, 224).ravel(), minlength=model.ngeom + 1
        )
        for name in simulation.scene.problem.objects_of_interest:
            own = [g for g in range(model.ngeom) if model.geom(g).name.startswith(f"{name}_")]
            assert seen[1:][own].sum() >= 25, (name, seed)
    renderer.close()


def test_no_scene_is_costly():
    # A frame costs by the triangle and a tick by the contact: what may be drawn and solved is bounded here.
    for task in TASKS:
        simulation = MujocoSimulation(task)
        settle(simulation, 0)
        model = simulation.scene.picture_model()
        assert model.vis.quality.offsamples == 0
        assert model.vis.quality.shadowsize == 0
        assert (model.geom_group == 1).sum() <= 160, task.id
        assert simulation.data.nefc <= 130, task.id
