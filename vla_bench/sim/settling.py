"""Whether a known delicate contact holds: the bowl on the ramekin of LIBERO-spatial, task 5."""

from __future__ import annotations

import numpy as np

from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode, Task

_STEPS = 40
_OFFSET_M, _HEIGHT_M = 0.04, 0.02


def bowl_stays(task: Task, episodes: int) -> tuple[int, int]:
    """Let `episodes` initial states settle for 40 steps; return in how many the bowl stays, of how many.

    It stays where bowl and ramekin are less than 40 mm apart and the bowl is at least 20 mm higher.
    """
    simulation = MujocoSimulation(task)
    still = np.zeros(simulation.action_size)
    stays = 0
    for k in range(episodes):
        simulation.reset(Episode(task.id, init_state=k))
        for _ in range(_STEPS):
            simulation.tick(still)
        bowl = simulation.data.body("akita_black_bowl_1_main").xpos
        ramekin = simulation.data.body("glazed_rim_porcelain_ramekin_1_main").xpos
        offset = np.linalg.norm((bowl - ramekin)[:2])
        stays += bool(offset < _OFFSET_M and bowl[2] - ramekin[2] > _HEIGHT_M)
    return stays, episodes
