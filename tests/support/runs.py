"""Whole runs for tests: plans of small studies, and what of a record is no clock."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vla_bench.run.executors import Executor
from vla_bench.run.executors.undecided import Undecided
from vla_bench.run.plan import Plan, make_plan
from vla_bench.run.provenance import describe_session, header_of
from vla_bench.run.records import Record, read_run
from vla_bench.run.runner import OnRecord, run_plan
from vla_bench.run.study import load_study

CLOCK = {"wall_s", "started_at", "policy_hz", "inferences"}


def plan_of(**keys: Any) -> Plan:
    """The plan of a study of given keys; lists may be tuples."""
    return make_plan(load_study(**keys))


def run(
    plan: Plan,
    folder: Path,
    on_record: OnRecord = lambda record: None,
    executor: Executor | Undecided | None = None,
) -> tuple[Record, ...]:
    """Run a plan and return all records of its folder."""
    run_plan(plan, folder, header_of(plan, describe_session(["test"], fingerprint="f")), on_record, executor)
    return read_run(folder).records


def timeless(records: tuple[Record, ...]) -> list[dict[str, Any]]:
    """The records without what the clock on the wall decides."""
    return [
        {key: value for key, value in dataclasses.asdict(record).items() if key not in CLOCK}
        | {"inferences": len(record.inferences.inference_ms)}
        for record in records
    ]
