"""Runs of timing studies for tests: an arm a cell, a letter an episode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.boards import STATUS
from support.records import make_record, write_run
from vla_bench.account.counted import Counted, count
from vla_bench.run.records import LatencyUsed, Record, read_run

MS = {"zero": 0.0, "constant:50ms": 50.0, "constant:100ms": 100.0, "constant:200ms": 200.0,
      "constant:400ms": 400.0, "constant:800ms": 800.0}  # fmt: skip


def counted(
    folder: Path,
    letters: Mapping[tuple[str, str], str],
    *,
    task: str = "t0",
    crossed: Mapping[str, Any] | None = None,
    moving: tuple[str, ...] | None = (),
    **fields: Any,
) -> Counted:
    """A counted run: (precision, latency) → s, f or e for each episode of a task."""
    records = [
        record_of(STATUS[letter], precision, latency, task=task, index=i, **fields)
        for (precision, latency), own in letters.items()
        for i, letter in enumerate(own)
    ]
    return of(folder, records, crossed=crossed, moving=moving)


def record_of(
    status: str, precision: str, latency: str, *, pacing: str = "realtime", **fields: Any
) -> Record:
    """A record of an arm that runs in real time."""
    made = make_record(status, precision=precision, latency=latency, pacing=pacing, **fields)
    return replace(made, key=f"{made.arm.key}#{made.episode.key}")


def of(
    folder: Path,
    records: Iterable[Record],
    *,
    crossed: Mapping[str, Any] | None = None,
    moving: tuple[str, ...] | None = (),
) -> Counted:
    """Some records, counted under a header that knows latencies and moving targets."""
    study = {"title": "", "suites": ["s"], "statistics": {"confidence": 0.95}, "crossed": crossed}
    latencies = {name: LatencyUsed(median_ms=ms) for name, ms in MS.items()}
    return count(read_run(write_run(folder, records, study=study, latencies=latencies, moving=moving)))
