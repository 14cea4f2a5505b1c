"""Runs a plan: simulates, acts, appends one record an item; running again continues."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from vla_bench.run.executors import Executor, Means, make_executor
from vla_bench.run.executors.units import units_of
from vla_bench.run.plan import Plan
from vla_bench.run.preparation import Preparation
from vla_bench.run.records import Loaded, Record, RunHeader, done_keys, open_run
from vla_bench.run.stage import Job, Policies, filmed_keys

OnRecord = Callable[[Record], None]


def run_plan(
    plan: Plan,
    folder: Path,
    header: RunHeader,
    on_record: OnRecord = lambda record: None,
    executor: Executor | None = None,
) -> int:
    """Run what is not done yet and return the number of new records.

    Conventions of every policy are compared with every suite's before the first episode. The episodes of a
    policy that this machine cannot run at a precision are errors, as long as another can be run. Ctrl-C
    leaves complete records.

    Raises:
        ConventionError: A policy and a suite do not fit.
        MissingCapabilityError: This machine can run none of the policies.
        VlaBenchError: The folder holds something else, cannot be written, or a policy cannot be loaded.
    """
    policies = Policies()
    with contextlib.closing(Preparation(plan, policies)) as preparation:
        header = open_run(folder, _with_loaded(header, preparation.compare()))
        preparation.measure(folder)
        fingerprint = header.sessions[-1].fingerprint
        job = Job(plan.study, folder, fingerprint, preparation.lacking, filmed_keys(plan))
    done = done_keys(folder)
    units = units_of(item for item in plan.items if item.key not in done)
    count = 0
    executor = executor or make_executor(None, Means())
    with contextlib.closing(executor.run(job, units, policies, lambda item: True)) as records:
        for record in records:
            on_record(record)
            count += 1
    return count


def _with_loaded(header: RunHeader, loaded: tuple[Loaded, ...]) -> RunHeader:
    """The header whose last session says what was loaded."""
    *before, last = header.sessions
    return header.model_copy(update={"sessions": (*before, last.model_copy(update={"loaded": loaded}))})
