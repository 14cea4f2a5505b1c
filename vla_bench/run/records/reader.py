"""Reading a results folder: finished or not, damaged or not, compacted or not."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from vla_bench.run.records.files import Line, LineFile, Part, begins_with, record_files, supersedes
from vla_bench.run.records.header import HEADER_FILE, RunHeader, read_header
from vla_bench.run.records.parquet import EPISODES, Compacted, opened
from vla_bench.run.records.schema import Record
from vla_bench.types import Arm


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
    """Read a results folder, finished or not; what was compacted of it is read from there.

    A torn last line is dropped; a damaged one is reported and the rest kept. Of several records of one work
    item, the first that is no error counts, else the first.

    Raises:
        MissingDataError: The folder holds no run.
        VlaBenchError: Its header is broken, or something in it is of another schema.
    """
    folder = Path(folder)
    header = read_header(folder)
    with garbage_kept(), opened(folder) as compacted:
        return _read(folder, header, compacted)


def done_keys(folder: str | Path) -> set[str]:
    """Keys of the work items that need not run again; an item that ended in an error does."""
    return {key for key, status in statuses(folder).items() if status != "error"}


def statuses(folder: str | Path) -> dict[str, str]:
    """Key → status of the record that counts, of every work item that has one; empty without a run.

    Raises:
        VlaBenchError: The header is broken, or something in the folder is of another schema.
    """
    folder = Path(folder)
    if not (folder / HEADER_FILE).exists():
        return {}
    header = read_header(folder)
    found: dict[str, str] = {}
    with opened(folder, (EPISODES,)) as compacted:
        usable = _usable(folder, header, compacted)
        known = compacted.statuses() if compacted and usable else ()
        told = [(key, status) for file, key, status in known if file in usable]
    files = (LineFile(path, header.study_hash, usable.get(path.name)) for path in record_files(folder))
    lines = ((line.record.key, line.record.status) for file in files for line in file)
    for key, status in itertools.chain(told, lines):
        if key not in found or supersedes(status, found[key]):
            found[key] = status
    return found


def chosen(records: Iterable[Record]) -> tuple[Record, ...]:
    """The records that count, one a work item, sorted by task, variation, episode and arm."""
    by_key: dict[str, Record] = {}
    for record in records:
        kept = by_key.setdefault(record.key, record)
        if kept is not record and supersedes(record.status, kept.status):
            by_key[record.key] = record
    return tuple(sorted(by_key.values(), key=_order))


def _read(folder: Path, header: RunHeader, compacted: Compacted | None) -> Run:
    problems: list[str] = []
    found = [line.record for line in _lines(folder, header, compacted, problems)]
    records = chosen(found)
    return Run(folder, header, records, tuple(problems), len(found) - len(records))


def _usable(folder: Path, header: RunHeader, compacted: Compacted | None) -> dict[str, Part]:
    """What of each file need not be read as lines, because it was compacted and has not changed."""
    if compacted is None or compacted.compaction.study_hash != header.study_hash:
        return {}
    parts = compacted.compaction.parts
    return {name: part for name, part in parts.items() if begins_with(folder / name, part)}


def _lines(
    folder: Path, header: RunHeader, compacted: Compacted | None, problems: list[str]
) -> Iterator[Line]:
    """All records in the order of files and lines, whichever way they are read."""
    usable = _usable(folder, header, compacted)
    known = compacted.lines() if compacted and usable else iter(())
    groups = itertools.groupby(known, key=attrgetter("file"))
    group = next(groups, None)
    for path in record_files(folder):
        while group is not None and group[0] < path.name:  # a file that is gone
            group = next(groups, None)
        if group is not None and group[0] == path.name:
            if path.name in usable:
                yield from group[1]
            group = next(groups, None)
        lines = LineFile(path, header.study_hash, usable.get(path.name))
        yield from lines
        problems += [*lines.problems, *([lines.torn] if lines.torn else [])]


@contextlib.contextmanager
def garbage_kept() -> Iterator[None]:
    """No garbage collection: records hold no cycles, and looking for some takes much of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _order(record: Record) -> tuple[Any, ...]:
    start = record.seed if record.init_state is None else record.init_state
    arm = _arm_key(record.policy, record.precision, record.pacing, record.latency, record.chunk_executed)
    return (record.suite, record.task_index, record.stem, record.variation, start, arm)


@functools.lru_cache
def _arm_key(*arm: Any) -> str:
    return Arm(*arm).key
