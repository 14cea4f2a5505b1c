"""Reads LIBERO's own demonstrations: one HDF5 file a task, `data/demo_k/{actions, obs/…}`.

Three conventions differ from ours and are undone here. Pictures are stored as OpenGL draws them, bottom row
first (`macros_image_convention`). The instruction that policies are trained and judged on is the name of the
file. And LIBERO's published files hold at index k what was seen *after* action k, while files made anew for
OpenVLA hold what was seen before it: `states` (always before) tells which.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_bench.catalog import words_of
from vla_bench.errors import ConventionError, DataError, MissingCapabilityError
from vla_bench.learn.demonstrations import DataConventions, Deeds, upright
from vla_bench.lerobot.conventions import Orientation
from vla_bench.lerobot.state import STATE_NAMES, proprio_of
from vla_bench.types import Array, Observation

CAMERAS = {"agentview": "agentview_rgb", "robot0_eye_in_hand": "eye_in_hand_rgb"}
STATE = ("ee_pos", "ee_ori", "gripper_states")
SUFFIX = "_demo"
# what LIBERO's files were made with; `env_args` and `macros_image_convention` say it where they are present
_HZ = 20.0
_CONVENTIONS: Mapping[str, Orientation] = {"opengl": "upside_down", "opencv": "upright"}
_ARM_JOINTS = 7


class LiberoDemonstrations:
    """The episodes of some of LIBERO's files.

    Args:
        files: One a task.
        source: What they are called together.

    Raises:
        DataError: A file is damaged, half-written, empty, or laid out otherwise.
        ConventionError: They differ in frequency, cameras or sizes.
    """

    def __init__(self, files: Sequence[Path], source: Path) -> None:
        self.source = source
        self._episodes: list[LiberoEpisode] = []
        for file in files:
            with opened(file) as data:
                self._add(file, data)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._episodes)

    def __iter__(self) -> Iterator[LiberoEpisode]:
        """Yield the episodes in order."""
        return iter(self._episodes)

    def _add(self, file: Path, data: Any) -> None:
        names = sorted(data, key=lambda name: (len(name), name))  # demo_2 before demo_10
        if not names:
            raise DataError(file, "holds no demonstration")
        for name in names:
            episode, conventions = _read_episode(file, data, name)
            if not self._episodes:
                self.conventions = conventions
            if conventions != self.conventions:
                raise ConventionError(
                    f"{self._episodes[0].file} has {self.conventions}, {file} ({name}) has {conventions}: "
                    "a data set has one frequency and one set of cameras"
                )
            self._episodes.append(episode)


@dataclass(frozen=True, slots=True)
class LiberoEpisode:
    """One episode; see `demonstrations.Demonstration`.

    Attributes:
        late: 1 where observation k was stored after action k; it is then paired with action k + 1.
    """

    file: Path
    name: str
    instruction: str
    task_id: str
    fps: float
    stored: Orientation
    late: int
    actions: Array

    @property
    def key(self) -> str:
        """File and group."""
        return f"{self.file.stem}/{self.name}"

    @property
    def deeds(self) -> Deeds:
        """See `demonstrations.Demonstration`; all stored actions, from the first state on."""
        with opened(self.file) as data:
            group = data[self.name]
            if "states" not in group or len(group["states"]) == 0:
                raise DataError(self.file, f"{self.name} has no states: it cannot be done again")
            start = np.asarray(group["states"][0], dtype=np.float64)
            return Deeds(start, np.asarray(group["actions"], dtype=np.float64))

    def observations(self, cameras: Sequence[str] = ()) -> Iterator[Observation]:
        """Yield T observations; see `demonstrations.Demonstration`."""
        with opened(self.file) as data:
            seen = data[self.name]["obs"]
            if absent := sorted(camera for camera in cameras if CAMERAS.get(camera) not in seen):
                raise ConventionError(f"{self.file}: no camera {absent}; it has {sorted(seen)}")
            for index in range(len(self.actions)):
                images = {name: upright(seen[CAMERAS[name]][index], self.stored) for name in cameras}
                proprio = {}
                if all(name in seen for name in STATE):
                    proprio = proprio_of(np.concatenate([seen[name][index] for name in STATE]))
                yield Observation(images, proprio, self.instruction, round(index / self.fps * 1e9))


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """The group `data` of a file; what HDF5 cannot read is an error that names the file.

    Raises:
        DataError: It is damaged or half-written, or has no group `data`.
        MissingCapabilityError: h5py is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingCapabilityError(f"{file}: HDF5 needs the package h5py: pip install h5py") from error
    try:
        with h5py.File(file, "r") as root:
            if "data" not in root:
                raise DataError(file, f"has no group 'data'; it has {', '.join(root) or 'none'}")
            yield root["data"]
    except (OSError, KeyError, RuntimeError) as error:
        raise DataError(file, f"is damaged or half-written: {error}") from error


def _read_episode(file: Path, data: Any, name: str) -> tuple[LiberoEpisode, DataConventions]:
    group = data[name]
    if missing := [key for key in ("actions", "obs") if key not in group]:
        raise DataError(file, f"{name} lacks {' and '.join(missing)}; it has {', '.join(group) or 'nothing'}")
    actions, seen = np.asarray(group["actions"], dtype=np.float64), group["obs"]
    cameras = {camera: key for camera, key in CAMERAS.items() if key in seen}
    lengths = {key: len(seen[key]) for key in (*cameras.values(), *STATE) if key in seen}
    if actions.ndim != 2 or len(actions) == 0 or set(lengths.values()) - {len(actions)}:
        raise DataError(file, f"{name} is half-written: actions {actions.shape}, observations {lengths}")
    late, fps = _lateness(group), _frequency(file, data)
    suite = Path(str(data.attrs.get("bddl_file_name", ""))).parent.name
    stem = file.stem.removesuffix(SUFFIX)
    episode = LiberoEpisode(
        file, name, _instruction(file, data), f"{suite}/{stem}" if suite else stem, fps,
        _orientation(file, data), late, actions[late:],
    )  # fmt: skip
    conventions = DataConventions(
        fps=fps,
        cameras={camera: seen[key].shape[1:3] for camera, key in cameras.items()},
        action_size=actions.shape[1],
        action_convention="delta_pose",
        proprio=STATE_NAMES if all(key in seen for key in STATE) else (),
    )
    return episode, conventions


def _lateness(group: Any) -> int:
    """1 if observation k was stored after action k, 0 if before it: by the joints in the states."""
    if "states" not in group or "joint_states" not in group["obs"] or len(group["states"]) < 2:
        return 0
    joints, states = group["obs"]["joint_states"][()], group["states"][()]
    before = states[:, 1 : 1 + _ARM_JOINTS]  # after the time
    same = np.abs(joints - before).max(1).mean()
    later = np.abs(joints[:-1] - before[1:]).max(1).mean()
    return int(later < same)


def _frequency(file: Path, data: Any) -> float:
    arguments = _json(file, data, "env_args").get("env_kwargs", {})
    return float(arguments.get("control_freq", _HZ))


def _orientation(file: Path, data: Any) -> Orientation:
    named = str(data.attrs.get("macros_image_convention", "opengl"))
    if named not in _CONVENTIONS:
        raise DataError(file, f"macros_image_convention is {named!r}; known: {', '.join(_CONVENTIONS)}")
    return _CONVENTIONS[named]


def _instruction(file: Path, data: Any) -> str:
    if file.stem.endswith(SUFFIX):
        return words_of(file.stem.removesuffix(SUFFIX))
    said = _json(file, data, "problem_info").get("language_instruction")
    if not said:
        raise DataError(
            file, f"has no instruction: neither the name (…{SUFFIX}.hdf5) nor problem_info gives one"
        )
    return str(said)


def _json(file: Path, data: Any, attribute: str) -> dict[str, Any]:
    text = data.attrs.get(attribute, "{}")
    try:
        found = json.loads(text)
    except (TypeError, ValueError) as error:
        raise DataError(file, f"its attribute {attribute} is no JSON: {error}") from error
    return found if isinstance(found, dict) else {}
