"""Everything in this process, one episode after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence

from vla_bench.run.executors.units import Unit
from vla_bench.run.records import Record, RecordWriter
from vla_bench.run.stage import Job, Policies, Stage


class Serial:
    """One worker, which is this process."""

    def run(self, job: Job, units: Sequence[Unit], policies: Policies) -> Generator[Record]:
        """Play units in their order; see `Executor`."""
        with contextlib.closing(Stage(job, policies)) as stage, RecordWriter(job.folder) as writer:
            for unit in units:
                for item in unit.items:
                    record = stage.play(item)
                    writer.append(record)
                    yield record
