"""Reads what others are writing into a results folder, each record once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vla_bench.run.records.files import record_files
from vla_bench.run.records.lines import decode
from vla_bench.run.records.schema import Record


class Growing:
    """The records that are added to a folder from now on.

    Args:
        folder: Of a run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = {path: path.stat().st_size for path in record_files(folder)}

    def new(self) -> Iterator[Record]:
        """What was added since the last time; a line that is not whole yet comes with the next."""
        for path in record_files(self._folder):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read[path] = self._read.get(path, 0) + len(line)
                    with contextlib.suppress(ValueError):  # a damaged line is for the reader of the folder
                        yield decode(line)
