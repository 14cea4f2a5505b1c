"""A data set with its pictures decoded: arrays on the disk that random samples can be read from.

Films are small, but a random picture costs opening and decoding one; an array costs the copy of its bytes.
The arrays stand in `decoded/` within the data set (beside it, where it is a single file): `numbers-….npz`,
and one `.npy` a camera and size. Their names hold a digest of the data set: when it grows they are made anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import ConventionError, DataError, VlaBenchError
from vla_bench.learn.demonstrations import Demonstrations
from vla_bench.lerobot.layout import write_whole
from vla_bench.policy.statistics import FILE as STATISTICS
from vla_bench.types import Array, Image

FOLDER = "decoded"
Progress = Callable[[int, int], None]  # episodes done, episodes in all


@dataclass(frozen=True, slots=True)
class Numbers:
    """All numbers of a data set of N frames in E episodes, frame after frame.

    Attributes:
        actions: (N, A) as in `ActionChunk`.
        proprio: Name → (N, D).
        lengths: (E,) frames of each episode.
        instructions, task_ids, keys: Of each episode.
    """

    actions: Array
    proprio: Mapping[str, Array]
    lengths: NDArray[np.int64]
    instructions: tuple[str, ...]
    task_ids: tuple[str, ...]
    keys: tuple[str, ...]


class Decoded:
    """The arrays of a data set; what is missing is made when it is asked for.

    Args:
        data: The data set.
        progress: Called after each episode while something is made.

    Raises:
        DataError: The data set is empty.
    """

    def __init__(self, data: Demonstrations, progress: Progress = lambda done, total: None) -> None:
        self._data, self._progress = data, progress
        if len(data) == 0:
            raise DataError(data.source, "holds no episode")
        source = data.source
        self.folder = source / FOLDER if source.is_dir() else source.with_name(f"{source.name}.{FOLDER}")
        self._digest = digest(source)[:12]

    def numbers(self) -> Numbers:
        """All numbers.

        Raises:
            DataError: The data set is damaged.
            VlaBenchError: The folder cannot be written.
        """
        path = self.folder / f"numbers-{self._digest}.npz"
        if not path.is_file():
            self._write(path, lambda draft: _save(draft, _collect(self._data, self._progress)))
        with np.load(path, allow_pickle=False) as stored:
            names = {name: stored[name] for name in stored.files}
        proprio = {
            name.removeprefix("proprio/"): value
            for name, value in names.items()
            if name.startswith("proprio/")
        }
        texts = (tuple(map(str, names[name])) for name in ("instructions", "task_ids", "keys"))
        return Numbers(names["actions"], proprio, names["lengths"], *texts)

    def pictures(self, camera: str, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """(N, H, W, 3) pictures of a camera, mapped into memory and not writable.

        Args:
            camera: A name in the data set's conventions.
            size: Height and width to be resized to (bicubic, antialiased); None leaves them as they are.

        Raises:
            ConventionError: There is no such camera.
            DataError: The data set is damaged.
            VlaBenchError: The folder cannot be written: the disk is full, say.
        """
        held = self._data.conventions.cameras
        if camera not in held:
            raise ConventionError(f"{self._data.source}: no camera {camera!r}; it has {sorted(held)}")
        size = size or held[camera]
        path = self.folder / f"{camera}-{size[0]}x{size[1]}-{self._digest}.npy"
        if not path.is_file():
            frames = int(self.numbers().lengths.sum())
            self._write(path, lambda draft: self._decode(draft, camera, (frames, *size, 3)))
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def _decode(self, draft: Path, camera: str, shape: tuple[int, int, int, int]) -> None:
        from numpy.lib.format import open_memmap

        stored = open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
        _reserve(draft, stored.nbytes)
        at = 0
        for done, episode in enumerate(self._data):
            for seen in episode.observations((camera,)):
                stored[at] = resized(seen.images[camera], shape[1:3])
                at += 1
            self._progress(done + 1, len(self._data))
        stored.flush()

    def _write(self, path: Path, write: Callable[[Path], None]) -> None:
        """Make a file as a whole, and remove those like it that belong to an earlier state of the data.

        Who comes while another makes it waits, and finds it made.
        """
        try:
            with _alone(path.parent):
                if path.is_file():
                    return
                write_whole(path, write)
        except OSError as error:
            raise VlaBenchError(f"{path}: cannot be written: {error.strerror or error}") from error
        kind = path.name.removesuffix(path.suffix).removesuffix(self._digest)
        for old in path.parent.glob(f"{kind}*{path.suffix}"):
            if old != path:
                old.unlink()


def digest(source: Path) -> str:
    """Names and sizes of a data set's files, and what its `meta/` says, as a hexadecimal digest."""
    found = hashlib.sha256()
    for path in [source] if source.is_file() else sorted(_files(source)):
        name = path.relative_to(source) if path != source else path.name
        found.update(f"{name}\0{path.stat().st_size}\0".encode())
        if path.parent.name == "meta" or "episodes" in path.parts:
            found.update(path.read_bytes())
    return found.hexdigest()


def resized(picture: Image, size: tuple[int, ...]) -> Image:
    """(H, W, 3) picture at another height and width; the same where it has them already."""
    if picture.shape[:2] == tuple(size):
        return picture
    from PIL import Image as Pillow

    shape = (size[1], size[0])
    return np.asarray(Pillow.fromarray(picture).resize(shape, Pillow.Resampling.BICUBIC))


def _files(source: Path) -> Iterator[Path]:
    for path in source.rglob("*"):
        parts = path.relative_to(source).parts
        if parts[0] not in (FOLDER, STATISTICS) and path.is_file() and not any(p[0] == "." for p in parts):
            yield path


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until nobody else makes something in a folder."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _collect(data: Demonstrations, progress: Progress) -> dict[str, Any]:
    actions: list[Array] = []
    proprio: dict[str, list[Array]] = {name: [] for name in data.conventions.proprio}
    texts: list[tuple[str, str, str]] = []
    for done, episode in enumerate(data):
        actions.append(episode.actions)
        texts.append((episode.instruction, episode.task_id, episode.key))
        if proprio:
            for seen in episode.observations():
                for name, values in proprio.items():
                    values.append(seen.proprio[name])
        progress(done + 1, len(data))
    named: Sequence[str] = ("instructions", "task_ids", "keys")
    return {
        "actions": np.concatenate(actions),
        "lengths": np.array([len(each) for each in actions]),
        **{f"proprio/{name}": np.array(values) for name, values in proprio.items()},
        **{name: np.array(column) for name, column in zip(named, zip(*texts, strict=True), strict=True)},
    }


def _save(draft: Path, arrays: Mapping[str, Any]) -> None:
    with draft.open("wb") as file:
        np.savez(file, **arrays)


def _reserve(path: Path, size: int) -> None:
    """Take the room on the disk now: a mapped file that finds none later is a bus error, not an exception."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, size)
