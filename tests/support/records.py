"""Records and results folders for tests: made by the real schema and the real writer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vla_bench.run.records import (
    ErrorInfo,
    Inferences,
    Record,
    RecordWriter,
    RunHeader,
    Session,
    open_run,
)
from vla_bench.types import Arm, Budget, Episode, Task

STUDY_HASH = "5" * 64


def make_record(
    status: str = "success",
    *,
    policy: str = "p",
    suite: str = "s",
    task: str = "t",
    index: int = 0,
    variation: str = "",
    **fields: Any,
) -> Record:
    """A record with ordinary values; `index` is the initial state."""
    outcome = {
        "success": {"cause": None},
        "failure": {"cause": "horizon", "budget_ended": "steps"},
        "error": {"error": ErrorInfo("RuntimeError", "it broke", "Traceback …")},
    }[status]
    precision = fields.pop("precision", "fp32")
    arm = Arm(policy, precision)
    episode = Episode(f"{suite}/{task}", variation, init_state=index)
    values = {
        "status": status, "success_any": status == "success", "success_last": status == "success",
        "score": float(status == "success"), "steps": 20, "ticks": 20, "simulated_s": 1.0, "task_s": 1.0,
        "wall_s": 0.5, "policy_hz": 100.0, "command_hz": 20.0, "worker": "0",
        "started_at": "2026-01-01T00:00:00+00:00", "inferences": Inferences(inference_ms=(10.0,) * 20),
    }  # fmt: skip
    return Record.of(
        arm=arm, episode=episode, task=make_task(suite, task), study_hash=STUDY_HASH,
        key=f"{arm.key}#{episode.key}", **{**values, **outcome, **fields},
    )  # fmt: skip


def make_task(suite: str, stem: str) -> Task:
    """A task without files; its index is the number at the end of its stem, or 0."""
    return Task(
        suite=suite, stem=stem, index=int(stem[1:]) if stem[1:].isdecimal() else 0, source=Path("none.bddl"),
        instruction=f"do {stem}", budget=Budget(steps=20), substep_s=0.002, tick_s=0.05, policy_period_s=0.05,
    )  # fmt: skip


def make_session(**fields: Any) -> Session:
    """One session on a machine that does not matter."""
    values = {
        "started_at": "2026-01-01T00:00:00+00:00", "command": ("vla-bench", "run", "x"),
        "git_commit": "c" * 40, "git_dirty": False,
        "versions": {"mujoco": "3.3.7", "numpy": "2.4.6"}, "python": "3.11.0",
        "platform": "Linux", "device": "a processor", "fingerprint": "f1",
    }  # fmt: skip
    return Session(**{**values, **fields})


def make_header(records: Iterable[Record] = (), **fields: Any) -> RunHeader:
    """The header of a run that planned exactly these records, in the order of their arms."""
    records = tuple(records)
    session = fields.pop("session", None) or make_session()
    values = {
        "study_name": "x", "study_hash": STUDY_HASH, "plan_hash": "1" * 64, "planned": len(records),
        "study": {"title": "", "suites": list(dict.fromkeys(r.suite for r in records)),
                  "statistics": {"interval": "wilson", "confidence": 0.95}},
        "arms": tuple(dict.fromkeys(r.arm for r in records)), "sessions": (session,),
    }  # fmt: skip
    return RunHeader(**{**values, **fields})


def write_run(folder: Path, records: Iterable[Record], **fields: Any) -> Path:
    """Write a results folder as a run does."""
    records = tuple(records)
    open_run(folder, make_header(records, **fields))
    for worker in sorted({record.worker for record in records}):
        with RecordWriter(folder, worker) as writer:
            for record in records:
                if record.worker == worker:
                    writer.append(record)
    return folder
