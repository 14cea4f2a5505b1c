"""The end of a worker's file, without reading what is before it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from vla_bench.run.records.lines import decode
from vla_bench.run.records.schema import Record

_BLOCK = 1 << 16


def last_record(folder: Path, worker: str) -> Record | None:
    """The last whole record that a worker wrote; None if there is none, or if it is damaged."""
    try:
        with (folder / f"episodes-{worker}.jsonl").open("rb") as file:
            line = _last_line(file.seek(0, 2), file)
    except OSError:
        return None
    try:
        return decode(line) if line else None
    except ValueError:
        return None


def _last_line(size: int, file: BinaryIO) -> bytes:
    """The last line that has an end."""
    found = b""
    start = size
    while start > 0:
        end, start = start, max(0, start - _BLOCK)
        file.seek(start)
        found = file.read(end - start) + found
        whole, _, _ = found.rpartition(b"\n")  # what follows it is torn
        if b"\n" in whole or start == 0:
            return whole.rpartition(b"\n")[2] + b"\n" if whole else b""
    return b""
