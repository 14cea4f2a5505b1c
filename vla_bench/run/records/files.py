"""The files of lines in a results folder, read one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vla_bench.config import FileModel
from vla_bench.errors import DataError, VlaBenchError
from vla_bench.run.records.lines import decode
from vla_bench.run.records.schema import Record


@dataclass(frozen=True, slots=True)
class Line:
    """A record and where it stands: the `file` in the results folder, the line's `number` counted from 1."""

    file: str
    number: int
    record: Record


class Part(FileModel):
    """The beginning of a file of lines: that many whole `lines` and bytes (`size`), and their SHA-256.

    `problems` are those of its lines that are no records of the run.
    """

    lines: int
    size: int
    sha256: str
    problems: tuple[str, ...] = ()


class LineFile:
    """The records of a file, in order; a line that is none is noted in `problems`.

    A torn last line is not part of the file yet: somebody may still be writing it.

    Args:
        path: `episodes-<worker>.jsonl`.
        study_hash: Of the run that the records belong to.
        after: What was read earlier, and is left out.
    """

    def __init__(self, path: Path, study_hash: str, after: Part | None = None) -> None:
        self._path, self._study_hash, self._digest = path, study_hash, hashlib.sha256()
        self._lines, self._size = (after.lines, after.size) if after else (0, 0)
        self.problems = list(after.problems) if after else []
        self.torn: str | None = None

    def __iter__(self) -> Iterator[Line]:
        """Yield the records.

        Raises:
            DataError: A sound line is of another schema.
        """
        with self._path.open("rb") as file:
            file.seek(self._size)
            for line in file:
                where = f"{self._path.name}:{self._lines + 1}"
                if not line.endswith(b"\n"):
                    self.torn = f"{where}: the last line is torn and was dropped; its episode runs again"
                    return
                self._lines, self._size = self._lines + 1, self._size + len(line)
                self._digest.update(line)
                record = self._record(line, where)
                if record is not None:
                    yield Line(self._path.name, self._lines, record)

    def part(self) -> Part:
        """What has been read, where nothing was left out."""
        return Part(
            lines=self._lines, size=self._size, sha256=self._digest.hexdigest(), problems=tuple(self.problems)
        )

    def _record(self, line: bytes, where: str) -> Record | None:
        try:
            record = decode(line)
        except ValueError as error:
            self.problems.append(f"{where}: {error}; the other lines are kept")
            return None
        except VlaBenchError as error:
            raise DataError(self._path, str(error), line=self._lines) from error
        if record.study_hash != self._study_hash:
            self.problems.append(f"{where}: belongs to study {record.study_hash[:8]}; not counted")
            return None
        return record


def file_of(folder: Path, worker: str) -> Path:
    """The file of lines that a worker writes."""
    return folder / f"episodes-{worker}.jsonl"


def worker_of(path: Path) -> str:
    """The worker that writes a file of lines."""
    return path.stem.removeprefix("episodes-")


def record_files(folder: Path) -> list[Path]:
    """The files of lines in a results folder, in order."""
    return sorted(folder.glob("episodes-*.jsonl"))


def begins_with(path: Path, part: Part) -> bool:
    """Whether a file still begins with what was read of it earlier."""
    if not path.is_file() or path.stat().st_size < part.size:
        return False
    digest, left = hashlib.sha256(), part.size
    with path.open("rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest() == part.sha256


def supersedes(new: str, kept: str) -> bool:
    """Whether a record with status `new` counts instead of an earlier one of the same work item."""
    return kept == "error" and new != "error"
