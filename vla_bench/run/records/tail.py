"""The end of a worker's file, without reading what is before it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from vla_bench.run.records.lines import decode
from vla_bench.run.records.schema import Record

_BLOCK = 1 << 16


class Tail:
    """The records that are added to a file from now on, each once.

    Args:
        path: Of a file that may not be there yet.
        read: How many of its bytes are known; by default all its whole lines.
    """

    def __init__(self, path: Path, read: int | None = None) -> None:
        self._path, self._read = path, read or 0
        if read is None and path.exists():
            with path.open("rb") as file:
                self._read = end_of_last_line(file.fileno())

    def new(self) -> Iterator[Record]:
        """What was added since the last time; a line that is not whole yet comes with the next.

        A damaged line is left out: it is for the reader of the folder.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                with contextlib.suppress(ValueError):
                    yield decode(line)


def end_of_last_line(file: int) -> int:
    """Bytes of an open file up to and including the last line end."""
    end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - _BLOCK)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
