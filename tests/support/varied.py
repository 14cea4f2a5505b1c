"""Digests of varied episodes: everything that a factor may change, as text that two processes can compare."""

from __future__ import annotations

import functools
import hashlib
import json

import numpy as np

from vla_bench import catalog
from vla_bench.axes.simulation import VariedSimulation, build_simulation
from vla_bench.types import CameraView, Episode

VIEWS = [CameraView("agentview", 48, 48), CameraView("robot0_eye_in_hand", 48, 48)]
NUMBERS = (
    "body_mass", "body_inertia", "body_ipos", "body_pos", "geom_size", "geom_friction", "dof_damping",
    "dof_invweight0", "site_rgba", "cam_pos", "cam_fovy",
)  # fmt: skip


@functools.lru_cache(maxsize=3)
def varied(task_id: str) -> VariedSimulation:
    """A simulation that tests share: every test begins with a reset, which must make all else forgotten."""
    return build_simulation(catalog.task(task_id))


def episode(task_id: str, variation: str = "", start: int = 0) -> Episode:
    """The episode of a task with that seed, or that initial state where it has them."""
    key = "seed" if catalog.task(task_id).init_states is None else "init_state"
    return Episode(task_id, variation, **{key: start})


def state_digest(simulation: VariedSimulation, ticks: int = 0) -> str:
    """What is simulated: state and numbers of the model, at the start and after some ticks of waving."""
    inner, digest = simulation.current, hashlib.sha256()
    for tick in range(ticks + 1):
        digest.update(inner.data.qpos.tobytes() + inner.data.qvel.tobytes())
        if tick < ticks:
            simulation.tick(np.array([0.3, -0.2, -0.4, 0.0, 0.1, 0.2, -1.0]) if tick % 10 == 0 else None)
    for name in NUMBERS:
        digest.update(getattr(inner.model, name).tobytes())
    digest.update(repr(inner.goal).encode())
    return digest.hexdigest()[:16]


def pixel_digest(simulation: VariedSimulation) -> str:
    """What is seen by both cameras."""
    images = simulation.observe(VIEWS).images
    return hashlib.sha256(b"".join(images[view.name].tobytes() for view in VIEWS)).hexdigest()[:16]


def digest(simulation: VariedSimulation, of: Episode, ticks: int = 0) -> dict[str, str]:
    """Reset to an episode and take everything."""
    simulation.reset(of)
    pixels = pixel_digest(simulation)
    return {
        "pixels": pixels,
        "state": state_digest(simulation, ticks),
        "instruction": simulation.instruction,
        "drawn": json.dumps(simulation.drawn, sort_keys=True),
    }
