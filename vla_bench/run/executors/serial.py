"""Everything in this process, one episode after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence

from vla_bench.errors import MissingCapabilityError
from vla_bench.run.executors import Means
from vla_bench.run.executors.units import Unit
from vla_bench.run.hosting import LOOPBACK, gpus
from vla_bench.run.plan import WorkItem
from vla_bench.run.records import Record, RecordWriter
from vla_bench.run.stage import Job, Policies, Stage


class Serial:
    """One worker, which is this process.

    Attributes:
        hosting: On a machine with a GPU policies have a process of their own: simulators draw with OpenGL,
            and CUDA never shares a process with that.

    Raises:
        MissingCapabilityError: Several are wanted.
    """

    host = LOOPBACK

    def __init__(self, means: Means) -> None:
        if means.workers != 1:
            raise MissingCapabilityError(
                f"executor 'serial' is one worker, {means.workers} are asked for: --executor process"
            )
        self.means, self.hosting = means, bool(gpus())

    def run(
        self, job: Job, units: Sequence[Unit], policies: Policies, needed: Callable[[WorkItem], bool]
    ) -> Generator[Record]:
        """Play units in their order; see `Executor`."""
        with contextlib.closing(self.stage(job, policies)) as stage, self.writer(job) as writer:
            for unit in units:
                for item in filter(needed, unit.items):
                    record = stage.play(item)
                    writer.append(record)
                    yield record

    def writer(self, job: Job) -> RecordWriter:
        """What writes the records."""
        return RecordWriter(job.folder)

    def stage(self, job: Job, policies: Policies) -> Stage:
        """Where items are played."""
        return Stage(job, policies)
