"""What the parity tests of LIBERO share: the task of a recording, and its replay."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_bench import catalog
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode, Task


def task_of(path: Path) -> Task:
    """Task of a recording called `<suite>_<index>[…].<suffix>`."""
    suite, index = path.name.split(".")[0].split("_init")[0].rsplit("_", 1)
    return catalog.task(f"{suite}/{int(index)}")


@functools.lru_cache(maxsize=1)
def simulation(task: Task) -> MujocoSimulation:
    """A simulation with the reference controller; one is kept, for recordings of the same task."""
    return MujocoSimulation(task, backend="numpy")


@dataclass(frozen=True)
class Replay:
    """Recorded actions applied from a recorded initial state; arrays over T steps."""

    qpos: np.ndarray
    qvel: np.ndarray
    ncon: np.ndarray
    done: np.ndarray
    proprio: dict[str, np.ndarray]


def replay(sim: MujocoSimulation, init_index: int, actions: np.ndarray) -> Replay:
    """First protocol reset, then initial state `init_index`, then the actions.

    The recordings use a fresh environment each: fixtures stand where its first reset put them, whatever the
    initial state, unlike episode k of the protocol.
    """
    sim.reset(Episode(sim.task.id, seed=0))
    sim.set_state(sim.starts.state(init_index))
    rows: dict[str, list] = {key: [] for key in ("qpos", "qvel", "ncon", "done")}
    proprio: dict[str, list] = {}
    for action in actions:
        sim.tick(action)
        for key, value in (
            ("qpos", sim.data.qpos.copy()),
            ("qvel", sim.data.qvel.copy()),
            ("ncon", sim.data.ncon),
            ("done", sim.succeeded),
        ):
            rows[key].append(value)
        for key, value in sim.observe().proprio.items():
            proprio.setdefault(key, []).append(value)
    arrays = {key: np.array(value) for key, value in rows.items()}
    return Replay(proprio={key: np.array(value) for key, value in proprio.items()}, **arrays)
