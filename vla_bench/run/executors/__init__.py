"""Who plays the items of a plan: this process, several, or machines."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from vla_bench.run.executors.serial import Serial
from vla_bench.run.executors.units import Unit
from vla_bench.run.records import Record
from vla_bench.run.stage import Job, Policies

__all__ = ["Executor", "Serial"]


class Executor(Protocol):
    """Plays units and writes their records."""

    def run(self, job: Job, units: Sequence[Unit], policies: Policies) -> Generator[Record]:
        """Play all units, in any order, and yield each record when it is on the disk.

        Closing the iterator stops everybody who plays.

        Args:
            job: What everybody must know.
            units: What is played.
            policies: Those of this process; other processes have their own.

        Raises:
            VlaBenchError: Nothing can be played any more: a full disk, say.
        """
        ...
