"""A data set as a trainer reads it: frame by frame in any order, each with the actions that follow."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import ConventionError, DataError
from vla_bench.learn import held_out
from vla_bench.learn.action_statistics import statistics_of
from vla_bench.learn.decoded import Decoded, Progress, digest
from vla_bench.learn.demonstrations import open_demonstrations
from vla_bench.learn.joining import Reel, one_after_the_other, require_alike
from vla_bench.types import Array, Image


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame and what was done from it on.

    Attributes:
        images: Camera → (H, W, 3) uint8, upright.
        proprio: Name → (D,) float64, as in `Observation.proprio`.
        instruction: What was asked for.
        actions: (T, A) the next T actions of the episode; the last one is repeated beyond its end.
        mask: (T,) which of them are the episode's.
        episode: Number of the episode in the data set.
        step: Number of the frame in the episode.
    """

    images: Mapping[str, Image]
    proprio: Mapping[str, Array]
    instruction: str
    actions: Array
    mask: NDArray[np.bool_]
    episode: int
    step: int


class Samples:
    """All frames of one or several data sets, by number; frames of an episode are neighbours.

    The first one to open a data set with a camera at a size decodes it (see `decoded`). Of several data sets
    the first decides: the others must be as it is, and statistics are its own. So a policy that was trained
    on it goes on with what DAgger added, and its actions keep their scale.

    Args:
        data: A LeRobot folder (v3) or LIBERO's HDF5 files; or several such.
        chunk: T, how many actions belong to a frame.
        cameras: Which pictures belong to a frame.
        image_px: Height and width that pictures are resized to; None leaves them as they are.
        progress: Called with (episodes done, episodes in all) while pictures are decoded.

    Attributes:
        folders: The data sets.
        own: How many frames are the first one's; statistics are theirs.
        conventions: Frequency, sizes and action convention of the data sets.
        cameras: As given.
        image_px: Camera → height and width of its pictures.
        chunk: As given.
        actions: (N, A) of all frames.
        proprio: Name → (N, D) of all frames.
        episode, step: (N,) of each frame.
        instructions, task_ids, keys: Of each episode.

    Raises:
        MissingDataError, DataError: There is no complete data set, or it shows what is held out.
        ConventionError: It lacks a camera, the sizes make no sense, or data sets differ.
    """

    def __init__(
        self,
        data: Path | Sequence[Path],
        *,
        chunk: int = 1,
        cameras: Sequence[str],
        image_px: int | None = None,
        progress: Progress = lambda done, total: None,
    ) -> None:
        if chunk < 1 or (image_px is not None and image_px < 1):
            raise ConventionError(f"chunk and image_px must be at least 1, got {chunk} and {image_px}")
        self.folders = (data,) if isinstance(data, Path) else tuple(data)
        opened = [open_demonstrations(folder) for folder in self.folders]
        require_alike(opened, cameras)
        decoded = [Decoded(each, progress) for each in opened]
        self.chunk, self.conventions = chunk, opened[0].conventions
        parts = [each.numbers() for each in decoded]
        for folder, part in zip(self.folders, parts, strict=True):
            if not np.isfinite(part.actions).all():
                raise DataError(folder, "holds actions that are not finite numbers")
            held_out.check(folder, part.task_ids)
        numbers = one_after_the_other(parts)
        self.actions, self.proprio, self.own = numbers.actions, numbers.proprio, len(parts[0].actions)
        self.instructions, self.task_ids, self.keys = numbers.instructions, numbers.task_ids, numbers.keys
        self.episode = np.repeat(np.arange(len(numbers.lengths)), numbers.lengths)
        ends = np.cumsum(numbers.lengths)
        self.step = np.arange(len(self.actions)) - (ends - numbers.lengths)[self.episode]
        self._end = ends[self.episode]  # (N,) frame after the last one of each frame's episode
        size = None if image_px is None else (image_px, image_px)
        self._pictures = {
            camera: Reel([each.pictures(camera, size) for each in decoded]) for camera in cameras
        }

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.actions)

    def __getitem__(self, index: int) -> Sample:
        """Frame `index`."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self} has {len(self)} frames, asked for {index}")
        index %= len(self)
        ahead = np.arange(index, index + self.chunk)
        mask = ahead < self._end[index]
        episode = int(self.episode[index])
        return Sample(
            images={name: reel.picture(index) for name, reel in self._pictures.items()},
            proprio={name: values[index].copy() for name, values in self.proprio.items()},
            instruction=self.instructions[episode],
            actions=self.actions[np.minimum(ahead, self._end[index] - 1)],
            mask=mask,
            episode=episode,
            step=int(self.step[index]),
        )

    def __str__(self) -> str:
        """The data sets, for messages."""
        return ", ".join(map(str, self.folders))

    @property
    def digest(self) -> str:
        """Of the data sets, in their order; of one, its own."""
        digests = [digest(folder) for folder in self.folders]
        return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()

    @property
    def hz(self) -> float:
        """Frames and actions a second."""
        return self.conventions.fps

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the pictures of a sample."""
        return tuple(self._pictures)

    @property
    def image_px(self) -> dict[str, tuple[int, int]]:
        """Camera → height and width of its pictures."""
        return {name: reel.size for name, reel in self._pictures.items()}

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """`action`, `proprio`, `num_transitions`, `num_trajectories`; see `action_statistics`."""
        return self.statistics_with(self.actions)

    def statistics_with(self, actions: Array) -> dict[str, Any]:
        """Statistics of the first data set, with (N, A) other numbers for the actions of all frames."""
        proprio = {name: values[: self.own] for name, values in self.proprio.items()}
        episodes = int(self.episode[self.own - 1]) + 1
        return statistics_of(actions[: self.own], proprio, episodes, self.conventions)
