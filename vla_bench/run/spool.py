"""Recorded episodes on their way into a data set: a folder each, complete or not there.

Many workers record; a LeRobot data set has one writer. So each episode is written whole into a folder of its
own, beside the records, and when the run ends `assemble` makes data sets of them: one a suite, since a data
set has one frequency and one set of cameras. What is killed on the way loses nothing that was complete.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import DataError
from vla_bench.lerobot import layout
from vla_bench.lerobot.draft import Columns, Draft, write_columns
from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.tables import read_columns, read_rows
from vla_bench.lerobot.writer import KEPT, Recording
from vla_bench.run.records.columns import steps_schema
from vla_bench.run.records.parquet import STEPS

# What LeRobot calls what came of an action; whether the robot was given a command in the period is ours.
REWARD, DONE, SUCCESS, COMMANDED = "next.reward", "next.done", "next.success", "vla_bench.commanded"
OUTCOME = {REWARD: "float32", DONE: "bool", SUCCESS: "bool", COMMANDED: "bool"}
FOLDER = "recordings"
_SPOOL, _ABOUT, _NUMBERS, _LEVELS = ".spool", "about.json", "numbers.parquet", "levels.npz"
_AT_ONCE = 256  # episodes between two summaries of a data set


@dataclass(frozen=True, slots=True)
class About:
    """What an episode is: its work item's key, its suite, task and instruction."""

    key: str
    suite: str
    task_id: str
    instruction: str


class Spooled:
    """A recorded episode that waits; see `lerobot.draft.Kept`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            table = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            self.about, self.layout = About(**table["about"]), _layout(table["layout"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(folder / _ABOUT, f"is no recorded episode: {error}") from error
        self.films = {name: folder / f"{name}.mp4" for name in self.layout.cameras}
        with np.load(folder / _LEVELS, allow_pickle=False) as stored:
            self.levels: dict[str, NDArray[np.int64]] = {name: stored[name] for name in self.layout.cameras}

    def numbers(self) -> Columns:
        """Columns of what was recorded but the pictures, one row a frame."""
        columns = read_columns(self.folder / _NUMBERS)
        return {name: np.stack(list(x)) if x.dtype == object else x for name, x in columns.items()}


def begin(folder: Path, has: Layout, about: About) -> Draft:
    """Begin to record an episode of the run in `folder`; it is there when its draft is kept."""
    place = folder / FOLDER / _SPOOL
    room = place / f".{about.key}.{platform.node()}.{os.getpid()}"
    for left in place.glob(f".{about.key}.{platform.node()}.*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)

    def keep(key: str, task_id: str, instruction: str, draft: Draft) -> None:
        write_columns(room / _NUMBERS, draft.numbers())
        np.savez_compressed(room / _LEVELS, **draft.levels)  # type: ignore[arg-type]
        table = {"about": asdict(about) | {"instruction": instruction}, "layout": asdict(has)}
        (room / _ABOUT).write_text(json.dumps(table), encoding="utf-8")
        shutil.rmtree(place / about.key, ignore_errors=True)  # of an attempt that has no record
        room.rename(place / about.key)

    return Draft(has, room, keep)


def assemble(folder: Path, order: Sequence[str], made_with: dict[str, Any]) -> list[Path]:
    """Move what waits in a run's folder into its data sets; returns those that there are.

    Args:
        folder: Of the run.
        order: Keys of work items; episodes stand in it, as far as they come together.
        made_with: What decides about physics and pixels.

    Raises:
        ConventionError: A data set was recorded with something else.
        VlaBenchError: Somebody else is writing it.
    """
    place = folder / FOLDER / _SPOOL
    by_suite: dict[str, list[Path]] = {}
    rank = {key: number for number, key in enumerate(order)}
    waiting = sorted(
        (path for path in place.glob("[!.]*") if path.name in rank), key=lambda path: rank[path.name]
    )
    for path in waiting:
        by_suite.setdefault(Spooled(path).about.suite, []).append(path)
    for suite, paths in by_suite.items():
        with Recording(folder / FOLDER / suite, Spooled(paths[0]).layout, made_with) as recording:
            for some in _batches(paths):
                new = [Spooled(path) for path in some if recording.tried.get(path.name) != KEPT]
                recording.add_all((e.about.key, e.about.task_id, e.about.instruction, e) for e in new)
                for path in some:
                    shutil.rmtree(path)
    with contextlib.suppress(OSError):  # others may be recording
        place.rmdir()
    return data_sets(folder)


def data_sets(folder: Path) -> list[Path]:
    """The data sets that a run has recorded."""
    return sorted(path.parents[1] for path in (folder / FOLDER).glob("*/meta/info.json"))


def write_steps(folder: Path) -> Path | None:
    """Write `steps.parquet` of all data sets of a run, for SQL; None where there are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = data_sets(folder)
    if not found:
        return None
    draft = folder / f".{STEPS}.{os.getpid()}"
    try:
        with pq.ParquetWriter(draft, steps_schema(), compression="zstd") as writer:
            for place in found:
                for row in read_rows(
                    place / layout.EPISODES.format(**layout.place(0)), ("stats/", layout.LEVELS)
                ):
                    file = place / layout.DATA.format(**layout.place(row["episode_index"]))
                    writer.write_table(_steps(row[layout.KEY], pq.read_table(file), pa))
        return draft.replace(folder / STEPS)
    finally:
        draft.unlink(missing_ok=True)


def _steps(key: str, frames: Any, pa: Any) -> Any:
    numbers = pa.list_(pa.float32())
    columns = {
        "key": pa.array([key] * len(frames)),
        "step": frames["frame_index"],
        "time_s": frames["timestamp"].cast(pa.float64()),
        "state": frames[layout.STATE].cast(numbers),
        "action": frames[layout.ACTION].cast(numbers),
        "commanded": frames[COMMANDED],
        "score": frames[REWARD],
        "success": frames[SUCCESS],
    }
    return pa.table(columns, schema=steps_schema())


def _batches(paths: list[Path]) -> Iterator[list[Path]]:
    rest = iter(paths)
    while some := list(itertools.islice(rest, _AT_ONCE)):
        yield some


def _layout(table: dict[str, Any]) -> Layout:
    cameras = {name: (int(size[0]), int(size[1])) for name, size in table.pop("cameras").items()}
    state, action = tuple(table.pop("state")), tuple(table.pop("action"))
    return Layout(cameras=cameras, state=state, action=action, **table)
