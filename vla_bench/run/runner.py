"""Runs a plan: simulates, acts, appends one record an item; running again continues."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from vla_bench.errors import MissingCapabilityError
from vla_bench.run.executors import Executor, Means, make_executor
from vla_bench.run.executors.undecided import Undecided
from vla_bench.run.executors.units import units_of
from vla_bench.run.executors.worker import settle, tidy
from vla_bench.run.hosting import Hosting
from vla_bench.run.plan import Plan, WorkItem
from vla_bench.run.preparation import Preparation
from vla_bench.run.records import Decided, Record, RunHeader, done_keys, note_decisions, open_run, read_run
from vla_bench.run.records.writer import check_run
from vla_bench.run.stage import Job, Policies
from vla_bench.run.stopping import Stopping
from vla_bench.run.watching import put_together, watched_keys

log = logging.getLogger("vla_bench.run")
OnRecord = Callable[[Record], None]


def run_plan(
    plan: Plan,
    folder: Path,
    header: RunHeader,
    on_record: OnRecord = lambda record: None,
    executor: Executor | Undecided | None = None,
) -> int:
    """Run what is not done yet and return the number of new records.

    Conventions of every policy are compared with every suite's before the first episode. The episodes of a
    policy that this machine cannot run at a precision are errors, as long as another can be run. Ctrl-C
    leaves complete records. Where a policy's process cannot be started again, its episodes are left for the
    next time, and the others are run.

    Raises:
        ConventionError: A policy and a suite do not fit.
        MissingCapabilityError: This machine can run none of the policies, or the process of one is gone.
        VlaBenchError: The folder holds something else, cannot be written, or a policy cannot be loaded.
    """
    check_run(folder, header.study_name, header.study_hash, header.plan_hash)
    settle(folder)
    executor = executor or make_executor(None, Means())
    with contextlib.ExitStack() as closing:
        hosted = plan.study.arms if executor.hosting else ()
        hosting = closing.enter_context(Hosting(hosted, executor.means, executor.host))
        policies = closing.enter_context(contextlib.closing(Policies(hosting.here, executor.means.load_s)))
        with contextlib.closing(Preparation(plan, policies, hosting)) as preparation:
            preparation.compare()
            *before, last = header.sessions
            sessions = (*before, preparation.described(last))
            header = open_run(folder, header.model_copy(update={"sessions": sessions}))
            preparation.measure(folder)
        if isinstance(executor, Undecided):
            executor = executor.decide(plan, hosting)
        fingerprint = header.sessions[-1].fingerprint
        outputs = plan.study.outputs
        filmed, recorded = watched_keys(plan, outputs.video), watched_keys(plan, outputs.record)
        job = Job(plan.study, folder, fingerprint, preparation.lacking, filmed, hosting.hosts, recorded)
        done = done_keys(folder)
        units = units_of(item for item in plan.items if item.key not in done)
        count = 0
        closing.callback(tidy, folder)
        closing.callback(put_together, plan, folder, fingerprint)  # also of a run that is stopped
        stopping = None if plan.study.statistics.stop == "never" else Stopping(plan, read_run(folder).records)
        closing.callback(_note, folder, stopping)
        needed = _Needed(hosting, stopping)
        records = executor.run(job, units, policies, needed)
        for record in closing.enter_context(contextlib.closing(records)):
            if stopping:
                stopping.saw(record)
            on_record(record)
            count += 1
        for sentence in [*hosting.told(), *_saved(stopping)]:
            log.info(sentence)
        if needed.left_out:
            raise MissingCapabilityError(f"{hosting.gone}; the same command plays the episodes that are left")
        return count


class _Needed:
    """Whether an item is worth playing when its turn comes.

    Attributes:
        left_out: Whether some were not, because their policy is gone: they would all end in errors.
    """

    def __init__(self, hosting: Hosting, stopping: Stopping | None) -> None:
        self._hosting, self._stopping = hosting, stopping
        self.left_out = False

    def __call__(self, item: WorkItem) -> bool:
        if self._stopping is not None and self._stopping.not_needed(item):
            return False
        if not self._hosting.can_play(item.arm):
            self.left_out = True
            return False
        return True


def _note(folder: Path, stopping: Stopping | None) -> None:
    """Keep what was decided with the records."""
    if stopping is not None:
        decided = [
            Decided.model_validate({name: getattr(made, name) for name in Decided.model_fields})
            for made in stopping.decisions
        ]
        note_decisions(folder, decided, stopping.surplus)


def _saved(stopping: Stopping | None) -> Iterator[str]:
    """What stopping early came to."""
    if stopping is not None:
        yield f"{len(stopping.decisions)} comparisons are decided, {stopping.saved} episodes need not be run"
