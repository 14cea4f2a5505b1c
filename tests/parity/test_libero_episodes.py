"""Successful pick-and-place episodes replayed open loop: same instant of success."""

from __future__ import annotations

import numpy as np
import pytest
from support.goldens import recordings
from support.libero import replay, simulation, task_of


@pytest.mark.parametrize("path", recordings("libero", "episodes"))
def test_libero_episode_succeeds_at_the_recorded_step(path, libero_tolerances):
    assert path is not None, "CI must have the recordings"
    bounds = libero_tolerances["episodes"][path.stem]
    sim = simulation(task_of(path))
    with np.load(path) as data:
        played = replay(sim, int(data["init_index"]), data["actions"])
        strict = slice(0, bounds["strict_steps"])
        for ours, name in ((played.qpos, "qpos"), (played.proprio["robot0_eef_pos"], "obs_robot0_eef_pos")):
            worst = np.abs(ours[strict] - data[name][strict]).max()
            assert worst <= bounds["strict_tol"], name
        assert played.done.any()
        assert (
            abs(int(np.argmax(played.done)) - int(data["first_success_step"])) <= bounds["success_step_tol"]
        )
