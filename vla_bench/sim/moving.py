"""Things that move by themselves: joints whose motion is prescribed as a function of simulated time.

A driven joint belongs to a fixture (a tray on a rail, a turntable) and has an `armature` so large that
no push of the arm matters within a tick; position and speed are set before every tick. What lies on it is
carried by friction, because the contact solver sees the joint's speed (a mocap body has none and would slide
away).

The mechanism knows joints and times only. A task file declares its drives (`bddl.Drive`); anything else that
can name a joint can make them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from vla_bench.bddl import Drive
from vla_bench.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Course:
    """Where a drive is at each instant, from where it was at the beginning.

    A drive with a range first runs towards its farther end, so that no episode begins with a turn.
    """

    drive: Drive
    start: float

    def at(self, time_s: float) -> tuple[float, float]:
        """Position (m or rad) and velocity, so long after the beginning."""
        speed = self.drive.speed
        if self.drive.range is None:
            return self.start + speed * time_s, speed
        low, high = self.drive.range
        span, gone = high - low, np.clip(self.start, low, high) - low
        # Unfolded, the way there and back is a circle of twice the span.
        around = (gone if gone <= span / 2 else 2 * span - gone) + speed * time_s
        around %= 2 * span
        return (low + around, speed) if around < span else (high - (around - span), -speed)


class Mover:
    """Drives joints of one simulation.

    Args:
        model, data: The simulation.
        drives: What moves.
        where: Named in errors.

    Raises:
        UnknownNameError: A drive names no hinge or slide of the model.
    """

    def __init__(
        self, model: mujoco.MjModel, data: mujoco.MjData, drives: Sequence[Drive], where: str = ""
    ) -> None:
        self._data, self._drives = data, tuple(drives)
        known = [model.joint(j).name for j in range(model.njnt) if model.jnt_type[j] in _SCALAR]
        for drive in drives:
            if drive.joint not in known:
                raise UnknownNameError("joint", drive.joint, known, where=_line(where, drive))
        self._qpos = [model.joint(drive.joint).qposadr[0] for drive in drives]
        self._qvel = [model.joint(drive.joint).dofadr[0] for drive in drives]
        self.begin()

    def begin(self) -> None:
        """Start from where the joints are now."""
        self._start_s = self._data.time
        self._courses = [
            Course(d, float(self._data.qpos[a])) for d, a in zip(self._drives, self._qpos, strict=True)
        ]

    def apply(self) -> None:
        """Set position and velocity for the simulated time of now."""
        for course, q, v in zip(self._courses, self._qpos, self._qvel, strict=True):
            self._data.qpos[q], self._data.qvel[v] = course.at(self._data.time - self._start_s)


_SCALAR = mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE


def _line(where: str, drive: Drive) -> str:
    return where if drive.line is None else f"{where}:{drive.line}"


def starting_range(drive: Drive) -> tuple[float, float]:
    """Range of positions (m or rad) that a drive may start from."""
    return (0.0, 2 * np.pi) if drive.range is None else drive.range
