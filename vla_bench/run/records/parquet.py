"""Compaction of a results folder: the same records as Parquet, for fast reading and for SQL.

The lines stay the truth. What the Parquet files were made of stands in the metadata of `runs.parquet`, with
digests of it and of them: what has been appended since is read from the lines, and where lines or files are
no longer what they were, the lines count.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import Field

from vla_bench.config import FileModel
from vla_bench.errors import VlaBenchError
from vla_bench.run.records import columns
from vla_bench.run.records.files import Line, LineFile, Part, begins_with, record_files, supersedes
from vla_bench.run.records.header import RunHeader, read_header
from vla_bench.run.records.overview import runs_table

RUNS, EPISODES, INFERENCES = FILES = ("runs.parquet", "episodes.parquet", "inferences.parquet")
STEPS = "steps.parquet"  # written where steps were recorded
_KEY = "vla_bench"
# Measured times hardly repeat: a dictionary of them costs time and room.
_MEASURED: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["row", "key", "call"],
    "use_byte_stream_split": list(columns.CALLS),
}
_BATCH = 4096  # records in memory at a time, and in a row group


class Compaction(FileModel):
    """What is in the Parquet files of a folder.

    Attributes:
        columns: Names of all; those of another version of vla-bench are others.
        parts: What was compacted of each file of lines.
        superseded: Rows of `episodes.parquet` in whose place another record of the same work item counts.
        digests: SHA-256 of `episodes.parquet` and `inferences.parquet`.
    """

    compaction_version: Literal[1] = 1
    columns: tuple[str, ...]
    study_hash: str
    parts: dict[str, Part]
    superseded: tuple[int, ...] = ()
    digests: dict[str, str] = Field(default_factory=dict)

    def is_current(self, folder: Path) -> bool:
        """Whether the folder holds these lines and no others."""
        files = record_files(folder)
        return {path.name for path in files} == set(self.parts) and all(
            path.stat().st_size == self.parts[path.name].size and begins_with(path, self.parts[path.name])
            for path in files
        )


def compact(folder: str | Path, into: str | Path | None = None) -> Compaction:
    """Write `runs.parquet`, `episodes.parquet` and `inferences.parquet` of a results folder, finished or not.

    Several may compact at once: each file is replaced as a whole, and files of different compactions are not
    used together.

    Args:
        folder: A results folder; its lines stay.
        into: Where the files are written; by default into the folder itself.

    Raises:
        MissingDataError: The folder holds no run.
        VlaBenchError: Something in it is of another schema, or the files cannot be written.
    """
    import pyarrow as pa

    folder = Path(folder)
    into = Path(into or folder)
    header = read_header(folder)
    drafts = {name: into / f".{name}.{os.getpid()}" for name in FILES}
    try:
        made = _write(folder, header, drafts)
        for name, draft in drafts.items():
            draft.replace(into / name)
    except (OSError, OverflowError, pa.ArrowException) as error:
        raise VlaBenchError(f"{folder} cannot be compacted into {into}: {error}") from error
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return made


def read_compaction(folder: Path) -> Compaction | None:
    """What the Parquet files of a folder were made of; None where they cannot be used together."""
    with opened(folder) as compacted:
        return compacted.compaction if compacted else None


@dataclass(frozen=True, slots=True)
class Compacted:
    """The Parquet files of a folder, open: what they hold stays the same while they are read."""

    compaction: Compaction
    _files: dict[str, BinaryIO]

    def lines(self) -> Iterator[Line]:
        """Yield the records, file by file and line by line."""
        import pyarrow.parquet as pq

        episodes = pq.ParquetFile(self._files[EPISODES], read_dictionary=list(columns.WORDS))
        calls = pq.ParquetFile(self._files[INFERENCES])
        for group in range(episodes.num_row_groups):
            said = calls.read_row_group(group, columns=list(columns.CALLS))
            yield from columns.lines_of(episodes.read_row_group(group), said)

    def statuses(self) -> Iterator[tuple[str, str, str]]:
        """Yield file, key and status of the records; nothing else is read."""
        import pyarrow.parquet as pq

        names = ["file", "key", "status"]
        episodes = pq.ParquetFile(self._files[EPISODES], read_dictionary=list(columns.WORDS))
        for group in range(episodes.num_row_groups):
            table = episodes.read_row_group(group, columns=names)
            yield from zip(*(columns.values_of(table[name]) for name in names), strict=True)


@contextlib.contextmanager
def opened(folder: Path, names: Sequence[str] = (EPISODES, INFERENCES)) -> Iterator[Compacted | None]:
    """Open the compaction of a folder; None where `names` are not all there as they were written."""
    with contextlib.ExitStack() as stack:
        compaction = _read_metadata(folder / RUNS)
        files: dict[str, BinaryIO] = {}
        digests = compaction.digests if compaction else {}
        for name in names:
            with contextlib.suppress(OSError):
                file = stack.enter_context((folder / name).open("rb"))
                if hashlib.file_digest(file, "sha256").hexdigest() == digests.get(name):
                    files[name] = file
        yield Compacted(compaction, files) if compaction and len(files) == len(names) else None


def _read_metadata(path: Path) -> Compaction | None:
    if not path.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        text = (pq.read_metadata(path).metadata or {})[_KEY.encode()]
        checksum, _, body = text.partition(b" ")
        if int(checksum, 16) != zlib.crc32(body):
            return None
        found = Compaction.model_validate_json(body)
    except (OSError, pa.ArrowException, KeyError, ValueError):  # damaged, or of another version
        return None
    return found if found.columns == _columns() else None


def _columns() -> tuple[str, ...]:
    return (*columns.episodes_schema().names, *columns.inferences_schema().names)


def _write(folder: Path, header: RunHeader, drafts: dict[str, Path]) -> Compaction:
    import pyarrow.parquet as pq

    files = {path.name: LineFile(path, header.study_hash) for path in record_files(folder)}
    counted = _Counted()
    with (
        pq.ParquetWriter(drafts[EPISODES], columns.episodes_schema(), compression="zstd") as episodes,
        pq.ParquetWriter(drafts[INFERENCES], columns.inferences_schema(), **_MEASURED) as calls,
    ):
        lines = itertools.chain.from_iterable(files.values())
        while batch := list(itertools.islice(lines, _BATCH)):
            episodes.write_table(columns.episodes_table(batch, counted.rows))
            calls.write_table(columns.inferences_table(batch, counted.rows), row_group_size=1 << 30)
            counted.add(batch)
    made = Compaction(
        columns=_columns(),
        study_hash=header.study_hash,
        parts={name: file.part() for name, file in files.items()},
        superseded=tuple(sorted(counted.superseded)),
        digests={name: _digest(drafts[name]) for name in (EPISODES, INFERENCES)},
    )
    body = made.model_dump_json().encode()
    runs = runs_table(header, len(counted.kept)).replace_schema_metadata(
        {_KEY.encode(): b"%08x %b" % (zlib.crc32(body), body)}
    )
    pq.write_table(runs, drafts[RUNS], compression="zstd")
    return made


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Counted:
    """Which row counts for each work item."""

    def __init__(self) -> None:
        self.rows = 0
        self.kept: dict[str, tuple[int, str]] = {}
        self.superseded: list[int] = []

    def add(self, lines: Sequence[Line]) -> None:
        for row, line in enumerate(lines, start=self.rows):
            key, status = line.record.key, line.record.status
            kept = self.kept.setdefault(key, (row, status))
            if kept[0] == row:
                continue
            if supersedes(status, kept[1]):
                self.kept[key] = (row, status)
            self.superseded.append(kept[0] if self.kept[key][0] == row else row)
        self.rows += len(lines)
