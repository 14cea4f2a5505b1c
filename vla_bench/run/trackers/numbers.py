"""What trackers are told, in plain numbers and words."""

from __future__ import annotations

import hashlib
from typing import Any

from vla_bench.run.records import Record, RunHeader

PROJECT = "vla-bench"  # unless the tracker's own environment variable says otherwise


def identity(header: RunHeader) -> str:
    """Sixteen hexadecimal digits that stay the same when a run is continued, and differ between runs."""
    text = f"{header.study_hash} {header.plan_hash} {header.sessions[0].started_at}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def title(header: RunHeader) -> str:
    """What the run is called: as its results folder is by default."""
    return f"{header.study_name}-{header.study_hash[:8]}"


def described(header: RunHeader) -> dict[str, Any]:
    """The study, and where its last session runs."""
    session = header.sessions[-1]
    return {
        "study_name": header.study_name,
        "study_hash": header.study_hash,
        "plan_hash": header.plan_hash,
        "planned": header.planned,
        "study": header.study,
        "device": session.device,
        "fingerprint": session.fingerprint,
        "git_commit": session.git_commit,
        "git_dirty": session.git_dirty,
        "versions": dict(session.versions),
    }


def numbers_of(record: Record) -> dict[str, float]:
    """The numbers of an episode, as `<arm>/<what>`; an error has no success, no score and no cause."""
    found: dict[str, float | None] = {
        "error": float(record.status == "error"),
        "steps": float(record.steps),
        "wall_s": record.wall_s,
    }
    if record.status != "error":
        found |= {
            "success": float(record.status == "success"), "score": record.score, "task_s": record.task_s,
            "policy_hz": record.policy_hz, "command_hz": record.command_hz,
        }  # fmt: skip
    arm = record.arm.key.replace(",", " ")
    return {f"{arm}/{name}": value for name, value in found.items() if value is not None}
