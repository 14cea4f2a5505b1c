"""Reads what others are writing into a results folder, each record once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vla_bench.run.records.files import record_files
from vla_bench.run.records.schema import Record
from vla_bench.run.records.tail import Tail


class Growing:
    """The records that are added to a folder from now on.

    Args:
        folder: Of a run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tails = {path: Tail(path) for path in record_files(folder)}

    def new(self) -> Iterator[Record]:
        """What was added since the last time; a line that is not whole yet comes with the next."""
        for path in record_files(self._folder):
            if path not in self._tails:
                self._tails[path] = Tail(path, read=0)
            yield from self._tails[path].new()
