"""What a worker does: plays units, writes its records, and is watched while it does."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator
from pathlib import Path

from vla_bench.errors import VlaBenchError
from vla_bench.run.executors.units import Unit
from vla_bench.run.executors.watchdog import Watchdog
from vla_bench.run.records import Record, RecordWriter
from vla_bench.run.records.files import record_files, worker_of
from vla_bench.run.stage import Job, Policies, Stage

PATIENCE_S = 600.0
LOAD_S = 3600.0
_TAKE_OVER_S = 10.0  # how long the file of a worker that died may stay locked
OUT_OF_MEMORY = 75  # exit status: a new process may do better
LOGS = "workers"


class Worker:
    """Plays units for a run; a context.

    Args:
        job: What is played.
        name: Of its file of records.
        number: Which one it is: workers take turns with the GPUs.
        patience_s: How long an episode may make no progress before the process is ended.

    Raises:
        VlaBenchError: Its file of records cannot be written.
    """

    def __init__(self, job: Job, name: str, number: int = 0, patience_s: float = PATIENCE_S) -> None:
        hosts = job.hosts[number % len(job.hosts)] if job.hosts else None
        if len(job.hosts) > 1:  # the pictures come from the GPU that looks at them
            os.environ.setdefault("MUJOCO_EGL_DEVICE_ID", str(number % len(job.hosts)))
        self._stage = Stage(job, Policies(hosts), name)
        self._closing = contextlib.ExitStack()
        self._closing.callback(self._stage.close)
        self._writer = self._closing.enter_context(_take_over(job.folder, name))
        self._closing.enter_context(Watchdog(self._stage.progress, patience_s, log_of(job.folder, name)))

    def play(self, unit: Unit) -> Generator[Record]:
        """Play the items of a unit, and yield each record when it is on the disk.

        Raises:
            VlaBenchError: A record cannot be written.
            SystemExit: Memory did not suffice: what leaked is given back with the process.
        """
        for item in unit.items:
            record = self._stage.play(item)
            if self._stage.exhausted:
                raise SystemExit(OUT_OF_MEMORY)
            self._writer.append(record)
            yield record

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()


def log_of(folder: Path, name: str) -> Path:
    """Where a worker's last words are."""
    return folder / LOGS / f"{name}.log"


def tidy(folder: Path) -> None:
    """Remove the last words of workers that had none to say."""
    for path in (folder / LOGS).glob("*.log"):
        if path.stat().st_size == 0:
            path.unlink()
    with contextlib.suppress(OSError):  # somebody had something to say, or there never was such a folder
        (folder / LOGS).rmdir()


def settle(folder: Path) -> None:
    """Wait until nobody writes the records of a folder any more, and drop lines that were torn.

    A main process that was killed takes its workers with it, and the last of them may still be writing.

    Raises:
        VlaBenchError: Somebody goes on writing.
    """
    for path in record_files(folder):
        _take_over(folder, worker_of(path)).close()


def _take_over(folder: Path, name: str) -> RecordWriter:
    """The writer of a worker; one of that name that has just died may still hold the file."""
    deadline = time.monotonic() + _TAKE_OVER_S
    while True:
        try:
            return RecordWriter(folder, name)
        except VlaBenchError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
