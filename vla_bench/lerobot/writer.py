"""Writes a LeRobot data set one episode at a time, so that it can be stopped at any instant and continued.

The row in `meta/episodes` is what makes an episode part of the data set: its files are complete before. What
a killed recording leaves behind is thrown away or completed when the folder is opened for writing again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import ConventionError, DataError, VlaBenchError
from vla_bench.lerobot import layout as names
from vla_bench.lerobot.draft import Columns, Draft, Kept, columns_of, statistics_of, write_columns
from vla_bench.lerobot.layout import Layout, Ours
from vla_bench.lerobot.pictures import ENCODINGS
from vla_bench.lerobot.tables import read_columns, read_rows

KEPT = "kept"
_DRAFTS, _LOCK = ".drafts", ".lock"


class BusyError(VlaBenchError):
    """Somebody else is recording into a folder."""


class Recording:
    """A LeRobot folder that episodes are added to; a context.

    Args:
        folder: New, or recorded by this class.
        layout: What every episode has.
        made_with: What decides about physics and pixels.

    Raises:
        ConventionError: The folder was recorded with another layout or with something else.
        DataError: It holds something else, or is damaged.
        BusyError: Somebody else is recording into it.
    """

    def __init__(self, folder: Path, layout: Layout, made_with: Mapping[str, Any]) -> None:
        self.folder, self.layout = folder, layout
        if not (folder / names.OURS).is_file() and folder.is_dir() and any(folder.glob("[!.]*")):
            raise DataError(folder, "is not empty and was not recorded by vla-bench; name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder / _LOCK)
        self._drafts = folder / _DRAFTS
        shutil.rmtree(self._drafts, ignore_errors=True)
        found = names.read_ours(folder)
        self._ours = found or Ours(conventions=layout.declaration, made_with=dict(made_with))
        self._check(made_with)
        self.tried = dict(self._ours.tried)
        self._rows: list[dict[str, Any]] = []
        self._columns: list[Columns] = []
        self._tasks: dict[str, int] = {}
        self._resume()

    def __len__(self) -> int:
        """Number of episodes kept."""
        return len(self._rows)

    def draft(self) -> Draft:
        """Begin an episode; see `Draft`."""
        return Draft(self.layout, self._drafts, self.add)

    def note(self, key: str, outcome: str) -> None:
        """Remember what became of an episode that was tried."""
        self.note_all({key: outcome})

    def note_all(self, outcomes: Mapping[str, str]) -> None:
        """Remember what became of some episodes that were tried."""
        self.tried.update(outcomes)
        self._write_ours()

    def close(self) -> None:
        """Let others record into the folder."""
        shutil.rmtree(self._drafts, ignore_errors=True)
        self._lock.close()

    def _check(self, made_with: Mapping[str, Any]) -> None:
        info = self.folder / names.INFO
        if info.is_file():
            stored = names.read_json(info)
            wanted = self.layout.info(0, 0, 0)
            if (stored.get("fps"), stored.get("features")) != (wanted["fps"], wanted["features"]):
                raise ConventionError(
                    f"{self.folder} was recorded with {_described(stored)}, not with {self.layout}; "
                    "name another folder"
                )
        differing = [
            f"{key} {self._ours.made_with.get(key)!r}, now {value!r}"
            for key, value in made_with.items()
            if self._ours.made_with.get(key) != value
        ]
        if differing:
            raise ConventionError(
                f"{self.folder} was recorded with {'; '.join(differing)}; name another folder"
            )

    def _resume(self) -> None:
        """Read what is there, throw away what no row names, and write anew what follows from the rows."""
        episodes = self.folder / names.EPISODES.format(**names.place(0))
        for row in read_rows(episodes) if episodes.is_file() else []:
            file = self.folder / names.DATA.format(**names.place(row["episode_index"]))
            columns = read_columns(file)
            self._columns.append({name: _stacked(column) for name, column in columns.items()})
            self._rows.append(row)
            self._tasks.setdefault(row["tasks"][0], len(self._tasks))
            self.tried[row[names.KEY]] = KEPT
        self._sweep()
        self._write_summary()

    def _sweep(self) -> None:
        """Remove files of an episode that never became one: LeRobot reads every file that it finds."""
        named = set()
        for index in range(len(self._rows)):
            at = names.place(index)
            named.add(self.folder / names.DATA.format(**at))
            for camera in self.layout.cameras:
                named.add(self.folder / names.VIDEOS.format(video_key=names.IMAGES + camera, **at))
        for file in (*self.folder.glob("data/*/*"), *self.folder.glob("videos/*/*/*")):
            if file not in named:
                file.unlink()

    def add(self, key: str, task_id: str, instruction: str, kept: Kept) -> None:
        """Make a whole episode part of the data set; its films stay where they are, too."""
        self.add_all([(key, task_id, instruction, kept)])

    def add_all(self, episodes: Iterable[tuple[str, str, str, Kept]]) -> None:
        """Make whole episodes (key, task id, instruction, content) part of the data set, all at once."""
        frames = sum(row["length"] for row in self._rows)
        for key, task_id, instruction, kept in episodes:
            index = len(self._rows)
            task = self._tasks.setdefault(instruction, len(self._tasks))
            columns = columns_of(kept, self.layout, index, frames, task)
            for camera, file in kept.films.items():
                video = names.VIDEOS.format(video_key=names.IMAGES + camera, **names.place(index))
                _link(file, self.folder / video)
            write_columns(self.folder / names.DATA.format(**names.place(index)), columns)
            row = self._row(key, task_id, instruction, columns, kept.levels)
            self._rows.append(row | {names.FACTS + name: value for name, value in kept.facts.items()})
            self._columns.append(columns)
            self.tried[key] = KEPT
            frames += len(columns["index"])
        self._write_tasks()
        self._write_episodes()
        self._write_summary()

    def _row(
        self,
        key: str,
        task_id: str,
        instruction: str,
        columns: Columns,
        levels: Mapping[str, NDArray[np.int64]],
    ) -> dict[str, Any]:
        index, length = len(self._rows), len(columns["index"])
        at = names.place(index)
        row: dict[str, Any] = {"episode_index": index, "tasks": [instruction], "length": length}
        row |= {f"data/{name}": value for name, value in at.items()}
        row |= {
            "dataset_from_index": int(columns["index"][0]),
            "dataset_to_index": int(columns["index"][-1]) + 1,
        }
        for camera in self.layout.cameras:
            film = f"videos/{names.IMAGES}{camera}"
            row |= {f"{film}/{name}": value for name, value in at.items()}
            row |= {f"{film}/from_timestamp": 0.0, f"{film}/to_timestamp": length / self.layout.fps}
        row |= {f"meta/episodes/{name}": value for name, value in names.place(0).items()}
        row |= {names.KEY: key, names.TASK_ID: task_id}
        for camera, counts in levels.items():
            row[names.LEVELS + camera] = counts.ravel().tolist()
        for feature, statistics in statistics_of([columns], [row], self.layout).items():
            row |= {f"stats/{feature}/{name}": value for name, value in statistics.items()}
        return row

    def _write_tasks(self) -> None:
        import pandas as pd

        table = pd.DataFrame(
            {"task_index": list(self._tasks.values())}, index=pd.Index(self._tasks, name="task")
        )
        names.write_whole(self.folder / names.TASKS, table.to_parquet)

    def _write_episodes(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pylist(self._rows)
        path = self.folder / names.EPISODES.format(**names.place(0))
        names.write_whole(path, lambda draft: pq.write_table(table, draft))

    def _write_summary(self) -> None:
        if self._rows:
            statistics = statistics_of(self._columns, self._rows, self.layout)
            names.write_json(self.folder / names.STATS, statistics)
        self._write_ours()
        frames = sum(row["length"] for row in self._rows)
        names.write_json(
            self.folder / names.INFO, self.layout.info(len(self._rows), frames, len(self._tasks))
        )

    def _write_ours(self) -> None:
        self._ours = self._ours.model_copy(update={"tried": dict(sorted(self.tried.items()))})
        names.write_json(self.folder / names.OURS, self._ours.model_dump(mode="json"))

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _stacked(column: NDArray[Any]) -> NDArray[Any]:
    return np.stack(list(column)) if column.dtype == object else column


def _described(info: Mapping[str, Any]) -> str:
    """Frequency and pictures of a data set's `info.json`, as `Layout` names them."""
    films = {
        key.removeprefix(names.IMAGES): feature
        for key, feature in info.get("features", {}).items()
        if key.startswith(names.IMAGES)
    }
    stored = {name: encoding.stored for name, encoding in ENCODINGS.items()}
    kept = {feature.get("info", {}).get("video.pix_fmt") for feature in films.values()}
    encoding = next((name for name, pixels in stored.items() if kept == {pixels}), ", ".join(map(str, kept)))
    sizes = {name: tuple(feature["shape"][:2]) for name, feature in films.items()}
    return str(Layout(float(info.get("fps", 0)), sizes, encoding))


def _link(file: Path, target: Path) -> None:
    """Let a file appear at a second place, without a second copy of its content where that is possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(file)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, target)


def _lock(path: Path) -> Any:
    """Hold a lock as long as the file is open."""
    import fcntl

    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise BusyError(f"{path.parent}: somebody else is recording into it") from error
    return file
