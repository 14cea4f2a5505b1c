"""Recorded episodes of a run on their way into data sets.

Many workers record; each episode waits in a folder of its own (`lerobot.spool`) beside the records, and when
the run ends `assemble` makes data sets of them: one a suite, since a data set has one frequency and one set
of cameras. What is killed on the way loses nothing that was complete.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vla_bench.lerobot import layout, spool
from vla_bench.lerobot.draft import Draft
from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.spool import About, Spooled
from vla_bench.lerobot.tables import read_rows
from vla_bench.lerobot.writer import KEPT, Recording
from vla_bench.run.records.columns import steps_schema
from vla_bench.run.records.parquet import STEPS

# What LeRobot calls what came of an action; whether the robot was given a command in the period is ours.
REWARD, DONE, SUCCESS, COMMANDED = "next.reward", "next.done", "next.success", "vla_bench.commanded"
OUTCOME = {REWARD: "float32", DONE: "bool", SUCCESS: "bool", COMMANDED: "bool"}
FOLDER = "recordings"
_SPOOL = ".spool"
_AT_ONCE = 256  # episodes between two summaries of a data set


def begin(folder: Path, has: Layout, about: About) -> Draft:
    """Begin to record an episode of the run in `folder`; it is there when its draft is kept."""
    return spool.begin(folder / FOLDER / _SPOOL / about.key, has, about)


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
