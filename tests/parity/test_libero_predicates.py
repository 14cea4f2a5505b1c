"""Truth of every goal literal in sampled states."""

from __future__ import annotations

import json

import mujoco
import numpy as np
import pytest
from support.goldens import recordings
from support.libero import simulation, task_of

from vla_bench.types import Episode


@pytest.mark.parametrize("path", recordings("libero", "predicates"))
def test_libero_predicates_have_the_recorded_truth(path):
    assert path is not None, "CI must have the recordings"
    sim = simulation(task_of(path))
    with np.load(path) as data:
        sim.reset(Episode(sim.task.id, seed=0))
        sim.model.body_pos[:], sim.model.body_quat[:] = data["body_pos"], data["body_quat"]
        goal = [[p.name, *p.args] for p in sim.scene.problem.goal]
        assert goal == json.loads(str(data["goal"]))
        for row, qpos in enumerate(data["qpos"]):
            sim.data.qpos[:], sim.data.qvel[:] = qpos, 0.0
            mujoco.mj_forward(sim.model, sim.data)
            sim._judge.look()
            assert list(sim.satisfied) == list(data["truth"][row]), f"state {row}"
            assert sim.succeeded == bool(data["success"][row])
