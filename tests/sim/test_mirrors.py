"""Laws of the scenes of `google` and `franka` in simulation, each built once."""

from __future__ import annotations

from contextlib import closing

import mujoco
import numpy as np
import pytest

from vla_bench import catalog
from vla_bench.policy.cards import load_policy
from vla_bench.run.rollout import Rollout, play
from vla_bench.sim.graphics import SceneRenderer
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode

TASKS = [suite.task(stem) for suite in map(catalog.suite, ("google", "franka")) for stem in suite.stems()]
# One of each scene is seen and played; where the words decide, the others differ in them alone.
SCENES = {(task.suite, task.published): task for task in TASKS}.values()
REACH_X, REACH_Y = (-0.30, 0.22), 0.32  # m, as in `test_bridge`


def settle(simulation: MujocoSimulation) -> None:
    task = simulation.task
    simulation.reset(Episode(task.id, seed=0))
    for tick in range(task.settle_steps * task.ticks_per_step):
        simulation.tick(np.array(task.settle_action) if tick == 0 else None)


def movable(simulation: MujocoSimulation) -> dict[str, np.ndarray]:
    """Positions of what can be moved."""
    items = simulation.scene.items.values()
    return {i.name: simulation.data.body(i.body).xpos.copy() for i in items if i.movable}


@pytest.mark.parametrize("task", SCENES, ids=lambda task: task.id)
def test_a_scene_is_at_rest_in_reach_seen_cheap_and_not_done_by_doing_nothing(task):
    with closing(MujocoSimulation(task)) as simulation:
        settle(simulation)
        before, table = movable(simulation), simulation.scene.place.offset[2]
        assert simulation.data.contact.dist.min() > -0.5e-3, "nothing penetrates"
        assert simulation.data.nefc <= 130, "a tick costs by the contact"
        for name, pos in before.items():
            assert REACH_X[0] < pos[0] < REACH_X[1], name
            assert abs(pos[1]) < REACH_Y, name
            assert table < pos[2] < table + 0.12, name
        for name, count in _pixels(simulation).items():
            assert count >= 25, name
        outcome = play(Rollout(simulation, load_policy("noop")), Episode(task.id, seed=0), "blocking", 0)
        assert (outcome["status"], outcome["stages"], outcome["steps"]) == ("failure", (), task.budget.steps)
        for name, pos in movable(simulation).items():
            assert np.linalg.norm(pos - before[name]) < 0.5e-3, name


def _pixels(simulation: MujocoSimulation) -> dict[str, int]:
    """What the policy's camera shows of what the task is about."""
    with closing(SceneRenderer(simulation.scene.picture_model())) as renderer:
        model, data = renderer.model, mujoco.MjData(renderer.model)
        assert (model.geom_group == 1).sum() <= 160, "a frame costs by the geom"
        model.body_pos[:], model.body_quat[:] = simulation.model.body_pos, simulation.model.body_quat
        data.qpos[:] = simulation.data.qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        shown = 1 + renderer.segment(data, "agentview", 224, 224).ravel()
        seen = np.bincount(shown, minlength=model.ngeom + 1)[1:]
        names = [model.geom(g).name for g in range(model.ngeom)]
    of_interest = simulation.scene.problem.objects_of_interest
    return {o: sum(seen[g] for g, name in enumerate(names) if name.startswith(f"{o}_")) for o in of_interest}
