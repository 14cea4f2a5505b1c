"""Whether two episodes are the same: digests of all that physics, or a camera's outlines, can depend on."""

from __future__ import annotations

import hashlib

from vla_bench.sim.edits import model_arrays
from vla_bench.sim.simulation import MujocoSimulation

_SEEN = ("light_", "mat_", "geom_rgba", "geom_matid", "site_rgba", "skin_")
_CAMERA = "cam_"


def physics_digest(simulation: MujocoSimulation) -> str | None:
    """Digest of an episode that has just been reset: equal digests move alike under equal commands.

    None where something that happens during the episode is not in the state.
    """
    return None if simulation.edits.tick else _digest(simulation, (*_SEEN, _CAMERA))


def outline_digest(simulation: MujocoSimulation) -> str:
    """Digest of the present state: equal digests show the same things at the same pixels."""
    return _digest(simulation, _SEEN)


def _digest(simulation: MujocoSimulation, left_out: tuple[str, ...]) -> str:
    data = simulation.data
    digest = hashlib.sha256(f"{simulation.task.id}|{simulation.blueprint.key}|{simulation.goal}".encode())
    for array in (data.qpos, data.qvel, data.act, data.mocap_pos, data.mocap_quat):
        digest.update(array.tobytes())
    for name, array in model_arrays(simulation.model).items():
        if not name.startswith(left_out):
            digest.update(array.tobytes())
    return digest.hexdigest()
