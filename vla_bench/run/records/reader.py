"""Reading a results folder, finished or not, damaged or not."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_bench.errors import DataError, VlaBenchError
from vla_bench.run.records.header import HEADER_FILE, RunHeader, read_header
from vla_bench.run.records.lines import decode
from vla_bench.run.records.schema import Record

EPISODES_PATTERN = "episodes-*.jsonl"


@dataclass(frozen=True, slots=True)
class Run:
    """A results folder as read.

    Attributes:
        records: One a work item, sorted by task, variation, episode and arm, whoever wrote them.
        problems: Lines that could not be used, with file and line.
        superseded: Records that a later or earlier record of the same work item replaces.
    """

    folder: Path
    header: RunHeader
    records: tuple[Record, ...]
    problems: tuple[str, ...]
    superseded: int


def read_run(folder: str | Path) -> Run:
    """Read a results folder, finished or not.

    A torn last line is dropped; a damaged one is reported and the rest kept. Of several records of one work
    item, the first that is no error counts, else the first.

    Raises:
        MissingDataError: The folder holds no run.
        VlaBenchError: Its header is broken, or something in it is of another schema.
    """
    folder = Path(folder)
    header = read_header(folder)
    problems: list[str] = []
    by_key: dict[str, Record] = {}
    total = 0
    with _garbage_kept():
        for path in sorted(folder.glob(EPISODES_PATTERN)):
            for record in _read_lines(path, header.study_hash, problems):
                total += 1
                kept = by_key.setdefault(record.key, record)
                if kept.status == "error" and record.status != "error":
                    by_key[record.key] = record
    records = tuple(sorted(by_key.values(), key=_order))
    return Run(folder, header, records, tuple(problems), total - len(records))


def done_keys(folder: str | Path) -> set[str]:
    """Keys of the work items that need not run again; an item that ended in an error does."""
    if not (Path(folder) / HEADER_FILE).exists():
        return set()
    return {record.key for record in read_run(folder).records if record.status != "error"}


def _read_lines(path: Path, study_hash: str, problems: list[str]) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path.name}:{number}"
            if not line.endswith(b"\n"):
                problems.append(f"{where}: the last line is torn and was dropped; its episode runs again")
                continue
            try:
                record = decode(line)
            except ValueError as error:
                problems.append(f"{where}: {error}; the other lines are kept")
                continue
            except VlaBenchError as error:
                raise DataError(path, str(error), line=number) from error
            if record.study_hash == study_hash:
                yield record
            else:
                problems.append(f"{where}: belongs to study {record.study_hash[:8]}; not counted")


@contextlib.contextmanager
def _garbage_kept() -> Iterator[None]:
    """No garbage collection: records hold no cycles, and looking for some takes a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _order(record: Record) -> tuple[Any, ...]:
    start = record.seed if record.init_state is None else record.init_state
    return (record.suite, record.task_index, record.stem, record.variation, start, record.arm.key)
