"""Workers as the jobs of a Slurm array, each with policies of its own; they share the results folder."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import submitit

from vla_bench.errors import MissingCapabilityError
from vla_bench.run.executors import Means
from vla_bench.run.executors.crew import WorkerDiedError, give_up
from vla_bench.run.executors.processes import Processes
from vla_bench.run.executors.units import RETRIES, Unit
from vla_bench.run.executors.worker import LOGS
from vla_bench.run.hosting import LOOPBACK, Hosting
from vla_bench.run.plan import WorkItem
from vla_bench.run.records import Record, done_keys
from vla_bench.run.records.growing import Growing
from vla_bench.run.stage import Job, Policies

_POLL_S = 2.0
CLUSTER = "slurm_cluster"  # the option that names submitit's executor: slurm, or local for a try


class OnSlurm:
    """An array of jobs, as many as workers; a job plays its share with one simulator and its own policies.

    What jobs leave undone, because they were cancelled or ran out of time, is submitted again, at most
    `RETRIES` times.

    Attributes:
        hosting: False: policies live in the jobs, where the GPUs are.

    Args:
        means: How many jobs, and their parameters as submitit calls them.

    Raises:
        MissingCapabilityError: There is no Slurm, or it takes no such parameters.
    """

    hosting = False
    host = LOOPBACK

    def __init__(self, means: Means) -> None:
        with tempfile.TemporaryDirectory() as folder:  # before anything is written where results are wanted
            _submitting(Path(folder), means)
        self.means = means

    def run(
        self, job: Job, units: Sequence[Unit], policies: Policies, needed: Callable[[WorkItem], bool]
    ) -> Generator[Record]:
        """Play units; see `Executor`."""
        left = [item for unit in units for item in unit.items if needed(item)]
        growing, jobs = Growing(job.folder), list[Any]()
        for attempt in range(1 + RETRIES):
            if not left:
                return
            jobs = self._submit(job, units, {item.key for item in left}, attempt)
            try:
                for record in _while_running(jobs, growing):
                    left = [item for item in left if item.key != record.key]
                    yield record
            finally:
                for each in jobs:
                    each.cancel(check=False)
        for item in left:
            error = WorkerDiedError(f"{1 + RETRIES} jobs ended before they played it: {_ends(jobs)}")
            yield give_up(job, item, error)

    def _submit(self, job: Job, units: Sequence[Unit], keys: set[str], attempt: int) -> list[Any]:
        shares = [_share(units, keys, number, self.means.workers) for number in range(self.means.workers)]
        names = [f"job{attempt}-{number}-" for number, share in enumerate(shares) if share]
        with _refusals():
            return _submitting(job.folder / LOGS / "slurm", self.means).map_array(
                _play, names, [job] * len(names), [s for s in shares if s], [self.means] * len(names)
            )


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Say in a sentence why no job is taken."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, NameError, FileNotFoundError) as error:
        said = str(error).strip().splitlines()[0]
        raise MissingCapabilityError(f"Slurm takes no jobs here: {said}") from error


def _submitting(folder: Path, means: Means) -> submitit.AutoExecutor:
    """What submits jobs, with their files in `folder`.

    Raises:
        MissingCapabilityError: There is no Slurm, or it takes no such parameters.
    """
    options = dict(means.slurm)
    cluster = str(options.pop(CLUSTER, "slurm"))
    with _refusals():
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(name="vla-bench", **options)
    return executor


def _share(units: Sequence[Unit], keys: set[str], number: int, shares: int) -> list[Unit]:
    """Every n-th unit, as far as something is left of it."""
    left = (tuple(item for item in unit.items if item.key in keys) for unit in units[number::shares])
    return [Unit(items) for items in left if items]


def _play(prefix: str, job: Job, units: Sequence[Unit], means: Means) -> int:
    """The main function of a job: one simulator, and its policies in a process beside it."""
    means = dataclasses.replace(means, workers=1)
    with Hosting(job.study.arms, means, LOOPBACK) as hosting:
        job = dataclasses.replace(job, hosts=hosting.hosts)
        done = done_keys(job.folder)  # it may have waited for long: another array may have played some
        records = Processes(means, prefix).run(
            job, units, Policies(), lambda item: item.key not in done and hosting.can_play(item.arm)
        )
        return sum(1 for _ in records)


def _while_running(jobs: Sequence[Any], growing: Growing) -> Iterator[Record]:
    """The records that jobs write, until all have ended."""
    while True:
        ended = all(each.done() for each in jobs)  # asked first: what is written until then is read below
        yield from growing.new()
        if ended:
            return
        time.sleep(_POLL_S)


def _ends(jobs: Sequence[Any]) -> str:
    """How jobs ended, in words."""
    states = Counter(each.state for each in jobs)
    return ", ".join(f"{count} {state}" for state, count in states.items())
