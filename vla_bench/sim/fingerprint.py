"""Fingerprint of engine and renderer: what a scene settles to, and what a picture of it looks like.

Half of the reproducibility problems of LIBERO are version drift that silently changes physics or pixels.
The fingerprint is taken on the built-in scene, so that it needs no download and is the same question on
every machine. Runs with different fingerprints do not belong into one table.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import mujoco
import numpy as np

from vla_bench import catalog
from vla_bench.errors import DataError, VlaBenchError
from vla_bench.sim import graphics
from vla_bench.sim.controller import Backend
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import CameraView, Episode

PROBE_TASK = "bridge_base/put_the_carrot_on_the_plate"
REFERENCE = Path(__file__).parent / "data" / "fingerprint.json"

# Positions are compared to a tenth of a millimetre: rounding differs between processors, engines differ more.
_POSE_DECIMALS = 4
_STEPS = 30


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What this machine makes of the probe.

    Attributes:
        mujoco: Version of the engine.
        controller: `numba` or `numpy`.
        physics: Hash of the settled positions, to 0.1 mm.
        pixels: Hash of the picture, None if none was drawn.
        gl_renderer: What drew it.
    """

    mujoco: str
    controller: Backend
    physics: str
    pixels: str | None = None
    gl_renderer: str | None = None

    def __str__(self) -> str:
        """The short form in records; without pixels where no policy looks."""
        text = f"mujoco{self.mujoco}-{self.controller}-{self.physics}"
        return text if self.pixels is None else f"{text}-{self.pixels}"


def take(*, views: int = 1, backend: Backend = "numba") -> Fingerprint:
    """Take the fingerprint of this machine.

    Args:
        views: How many of the probe's cameras are drawn; 0 where no pictures are used.
        backend: The controller's.

    Raises:
        MissingCapabilityError: A picture is asked for and nothing draws here.
    """
    task = catalog.task(PROBE_TASK)
    simulation = MujocoSimulation(task, backend=backend)
    simulation.reset(Episode(task.id, seed=0))
    moves = np.sin(np.arange(_STEPS)[:, None] * [0.9, 0.7, 0.5, 0.0, 0.0, 0.4, 0.8]) * 0.4
    for move in moves:
        for tick in range(task.ticks_per_step):
            simulation.tick(move if tick == 0 else None)
    settled = np.round(simulation.data.qpos, _POSE_DECIMALS) + 0.0  # no negative zero
    physics, pixels, renderer = _digest(settled.tobytes()), None, None
    if views:
        wanted = [CameraView(name, 128, 128) for name in task.cameras[:views]]
        pictures = simulation.observe(wanted).images
        pixels = _digest(b"".join(pictures[view.name].tobytes() for view in wanted))
        renderer = graphics.describe().renderer
    simulation.close()
    return Fingerprint(mujoco.__version__, backend, physics, pixels, renderer)


def write(fingerprint: Fingerprint, path: Path) -> None:
    """Store a fingerprint to compare with later.

    Raises:
        VlaBenchError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(fingerprint), indent=2) + "\n")
    except OSError as error:
        raise VlaBenchError(f"{path} cannot be written: {error.strerror}") from error


def read(path: Path = REFERENCE) -> Fingerprint:
    """Read a stored fingerprint; by default the one that this version was released with.

    Raises:
        DataError: The file is not one.
    """
    try:
        return Fingerprint(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(path, f"is not a fingerprint: {error}") from error


def differences(ours: Fingerprint, reference: Fingerprint) -> list[str]:
    """Sentences on what differs and what that means; pixels count only where the renderer is the same."""
    found = []
    if ours.mujoco != reference.mujoco:
        found.append(f"MuJoCo is {ours.mujoco}, the reference was taken with {reference.mujoco}")
    if (ours.controller, ours.physics) != (reference.controller, reference.physics):
        found.append(
            f"the probe settles differently ({ours.controller} {ours.physics}, "
            f"reference {reference.controller} {reference.physics}): success rates are not comparable"
        )
    if ours.pixels and reference.pixels and ours.pixels != reference.pixels:
        if ours.gl_renderer == reference.gl_renderer:
            found.append("pictures differ with the same GL renderer: visual policies are not comparable")
        else:
            found.append(
                f"pictures come from {ours.gl_renderer}, the reference's from {reference.gl_renderer}: "
                "they differ by fractions of a grey level"
            )
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]
