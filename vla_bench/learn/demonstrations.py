"""Demonstrations: episodes of observations and actions that somebody recorded, whatever file they are in.

Readers give everything in this project's conventions (`types.Observation`, `types.ActionChunk`): pictures as
a person would see them, and observation k is what was seen before action k. What a data set does not declare
is not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vla_bench.errors import ConventionError, DataError, MissingDataError
from vla_bench.lerobot.conventions import DELTA_POSE, Orientation
from vla_bench.policy.base import PolicySpec
from vla_bench.types import Array, Episode, Image, Observation, Task

_ROWS: Mapping[Orientation, int] = {"upright": 1, "upside_down": -1, "mirrored": 1, "rotated": -1}
_COLUMNS: Mapping[Orientation, int] = {"upright": 1, "upside_down": 1, "mirrored": -1, "rotated": -1}


@dataclass(frozen=True, slots=True)
class DataConventions:
    """What a policy can count on in a data set.

    Attributes:
        fps: Observations and actions a second.
        cameras: Name → height and width of its pictures.
        action_size: A.
        action_convention: As in `PolicySpec`; None where the data set does not declare one.
        proprio: Names in `Observation.proprio`.
    """

    fps: float
    cameras: Mapping[str, tuple[int, int]]
    action_size: int
    action_convention: str | None
    proprio: tuple[str, ...] = ()

    @property
    def units(self) -> dict[str, float]:
        """Name and unit of each number of an action → what 1 means in it."""
        if self.action_convention == "delta_pose" and self.action_size == len(DELTA_POSE):
            return dict(DELTA_POSE)
        return {f"a{index}": 1.0 for index in range(self.action_size)}


@dataclass(frozen=True, slots=True)
class Deeds:
    """Enough to do a demonstration again.

    Attributes:
        start: An episode of the `demo` namespace, or (1 + nq + nv,) time, positions and velocities of MuJoCo.
        actions: (T, A) everything that was done from there on, after the scene had come to rest.
    """

    start: Episode | Array
    actions: Array


class Demonstration(Protocol):
    """One recorded episode of T actions."""

    @property
    def key(self) -> str:
        """Names it within the data set."""
        ...

    @property
    def task_id(self) -> str:
        """The task that was done; empty where the data set does not say."""
        ...

    @property
    def instruction(self) -> str:
        """What was asked for."""
        ...

    @property
    def actions(self) -> Array:
        """(T, A) as in `ActionChunk`, in the data set's action convention."""
        ...

    @property
    def deeds(self) -> Deeds:
        """What was done from where on.

        Raises:
            DataError: The data set does not say.
        """
        ...

    def observations(self, cameras: Sequence[str] = ()) -> Iterator[Observation]:
        """Yield T observations with the pictures of `cameras`; only these are decoded.

        Raises:
            DataError: The data are incomplete or damaged.
        """
        ...


class Demonstrations(Protocol):
    """A data set of demonstrations."""

    @property
    def source(self) -> Path:
        """Its folder or file."""
        ...

    @property
    def conventions(self) -> DataConventions:
        """What it holds."""
        ...

    def __len__(self) -> int:
        """Number of episodes."""
        ...

    def __iter__(self) -> Iterator[Demonstration]:
        """Yield the episodes in order."""
        ...


def open_demonstrations(path: Path) -> Demonstrations:
    """Open a LeRobot folder (v3) or LIBERO's HDF5 files.

    Raises:
        MissingDataError: There is nothing, or nothing complete.
        DataError: It is damaged, half-written, or of another version.
    """
    from vla_bench.learn.lerobot_reader import LeRobotDemonstrations
    from vla_bench.learn.libero_hdf5 import LiberoDemonstrations

    if not path.exists():
        raise MissingDataError(f"{path}: no such data set; `vla-bench demos --out {path}` records one")
    if (path / "meta" / "info.json").is_file():
        return LeRobotDemonstrations(path)
    files = [path] if path.is_file() else sorted(path.rglob("*.hdf5"))
    if files:
        return LiberoDemonstrations(files, path)
    raise MissingDataError(
        f"{path}: holds no demonstrations: expected a LeRobot folder (meta/info.json) or LIBERO's files "
        "(*.hdf5)"
    )


def check_fit(demonstrations: Demonstrations, spec: PolicySpec, name: str) -> None:
    """Compare what a policy wants with what a data set holds.

    Raises:
        ConventionError: They differ; all differences are named.
    """
    held, problems = demonstrations.conventions, []
    if spec.privileged:
        problems.append("it needs the simulation's state, which no demonstration holds")
    if spec.control_hz is not None and abs(spec.control_hz - held.fps) > 1e-6 * held.fps:
        problems.append(f"it acts at {spec.control_hz:g} Hz, the data were recorded at {held.fps:g} Hz")
    if spec.action_size != held.action_size:
        problems.append(f"its actions have {spec.action_size} numbers, the data's {held.action_size}")
    if held.action_convention is None:
        problems.append(
            f"its actions are {spec.action_convention!r}, the data do not declare theirs "
            '(meta/vla_bench.json: {"conventions": {"action_convention": …, "cameras": …, "pictures": …}})'
        )
    elif spec.action_convention != held.action_convention:
        problems.append(f"its actions are {spec.action_convention!r}, the data's {held.action_convention!r}")
    if absent := sorted(set(spec.cameras) - set(held.cameras)):
        problems.append(f"it needs cameras {absent}, the data have {sorted(held.cameras)}")
    for camera in spec.cameras:
        if camera in held.cameras and held.cameras[camera] != spec.image_px:
            sizes = ["×".join(map(str, size)) for size in (spec.image_px, held.cameras[camera])]
            problems.append(f"it wants {camera} at {sizes[0]} pixels, the data have {sizes[1]}")
    if missing := sorted(set(spec.proprio) - set(held.proprio)):
        problems.append(f"it needs proprioception {missing}, the data have {sorted(held.proprio)}")
    if problems:
        raise ConventionError(f"policy {name!r} does not fit {demonstrations.source}: {'; '.join(problems)}")


def check_frequency(demonstrations: Demonstrations, tasks: Iterable[Task]) -> None:
    """Compare the policy periods of tasks with a data set.

    Raises:
        ConventionError: A task runs at another frequency.
    """
    fps = demonstrations.conventions.fps
    for task in tasks:
        if abs(task.policy_period_s * fps - 1) > 1e-6:
            raise ConventionError(
                f"{demonstrations.source} was recorded at {fps:g} Hz, {task.id} runs at "
                f"{1 / task.policy_period_s:g} Hz"
            )


def upright(picture: Image, stored: Orientation) -> Image:
    """Turn a stored picture (H, W, 3) upright."""
    return np.ascontiguousarray(picture[:: _ROWS[stored], :: _COLUMNS[stored]])


def all_actions(demonstrations: Demonstrations) -> Array:
    """(N, A) the actions of all episodes.

    Raises:
        DataError: There are none, or they are not finite numbers.
    """
    found = [episode.actions for episode in demonstrations]
    if not found or not sum(map(len, found)):
        raise DataError(demonstrations.source, "holds no episode; nothing can be measured on it")
    actions = np.concatenate(found)
    if not np.isfinite(actions).all():
        raise DataError(demonstrations.source, "holds actions that are not finite numbers")
    return actions
