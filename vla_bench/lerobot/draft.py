"""An episode that is being recorded, before it belongs to a data set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_bench.lerobot import feature_statistics
from vla_bench.lerobot import layout as names
from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.pictures import ENCODINGS, Film
from vla_bench.types import Array, Image

Columns = dict[str, NDArray[Any]]


class Draft:
    """An episode that is being recorded; a context that throws away what has not been kept.

    Args:
        layout: What the episode has.
        folder: Where its films are until then.
        keep: Makes it an episode of the data set: called with its key, task id, instruction, and itself.
        facts: As in `Kept`.

    Attributes:
        films: Camera → its film.
        levels: Camera → (3, 256) how often each level occurs in each channel.
    """

    def __init__(
        self,
        layout: Layout,
        folder: Path,
        keep: Callable[[str, str, str, Draft], None],
        facts: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._layout, self._keep, self.facts = layout, keep, facts
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self.films = {name: folder / f"{name}.mp4" for name in layout.cameras}
        self._writers = {
            name: Film(self.films[name], size, layout.fps, ENCODINGS[layout.encoding])
            for name, size in layout.cameras.items()
        }
        self.levels = {name: np.zeros((3, 256), dtype=np.int64) for name in layout.cameras}
        self._states: list[Array] = []
        self._actions: list[Array] = []
        self._more: dict[str, list[float]] = {name: [] for name in layout.more}

    def add(self, images: Mapping[str, Image], state: Array, action: Array, **more: float) -> None:
        """Record what was seen, the (S,) state, the (A,) action then executed, and what came of it."""
        for name, film in self._writers.items():
            film.add(images[name])
            self.levels[name] += feature_statistics.levels_of(images[name])
        self._states.append(state)
        self._actions.append(action)
        for name, values in self._more.items():
            values.append(more[name])

    def numbers(self) -> Columns:
        """Columns of what was recorded but the pictures, one row a frame."""
        more = {name: np.array(values, self._layout.more[name]) for name, values in self._more.items()}
        return {
            names.STATE: np.array(self._states, dtype=np.float32),
            names.ACTION: np.array(self._actions, dtype=np.float32),
            **more,
        }

    def keep(self, key: str, task_id: str, instruction: str) -> None:
        """Make it an episode of the data set."""
        for film in self._writers.values():
            film.close()
        self._keep(key, task_id, instruction, self)

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, film in self._writers.items():
            film.close()
            self.films[name].unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others record there, or it has become an episode
            self._folder.rmdir()


class Kept(Protocol):
    """An episode that is whole: what a data set takes in.

    Attributes:
        films: Camera → its film.
        levels: Camera → (3, 256) how often each level occurs in each channel.
        facts: What else is to be known of the episode; the same names in all episodes of a data set.
    """

    films: dict[str, Path]
    levels: dict[str, NDArray[np.int64]]
    facts: Mapping[str, float]

    def numbers(self) -> Columns:
        """Columns of what was recorded but the pictures, one row a frame."""
        ...


def columns_of(kept: Kept, layout: Layout, episode: int, first: int, task: int) -> Columns:
    """All columns of an episode in a data set, whose first frame is the data set's frame `first`."""
    numbers = kept.numbers()
    frames = np.arange(len(numbers[names.ACTION]))
    return {
        **numbers,
        "timestamp": (frames / layout.fps).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.full(len(frames), episode),
        "index": first + frames,
        "task_index": np.full(len(frames), task),
    }


def statistics_of(
    columns: list[Columns], rows: list[dict[str, Any]], layout: Layout
) -> dict[str, feature_statistics.Statistics]:
    """Statistics of all features over some episodes; of pictures, from how often each level occurs."""
    found = {}
    for name in columns[0]:
        values = np.concatenate([episode[name] for episode in columns]).astype(np.float64)
        found[name] = feature_statistics.of_numbers(values.reshape(len(values), -1))
    for camera in layout.cameras:
        counts = np.sum([row[names.LEVELS + camera] for row in rows], axis=0).reshape(3, 256)
        pictures = sum(row["length"] for row in rows)
        found[names.IMAGES + camera] = feature_statistics.of_levels(counts, pictures)
    return found


def write_columns(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of numbers as a parquet file; (N, D) values become lists of D."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name, values in columns.items():
        flat = pa.array(values.ravel())
        arrays[name] = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    table = pa.table(arrays)
    names.write_whole(path, lambda draft: pq.write_table(table, draft))
