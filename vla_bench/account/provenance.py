"""Where the records of a report come from, how complete they are, and what stands against their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from vla_bench.run.records import Record, Run, RunHeader, Session


def header_lines(run: Run) -> Iterable[str]:
    """Sentences on what was run, where, how complete it is, and what stands against its numbers."""
    yield from origin_lines(run)
    yield from error_lines(run.records)


def origin_lines(run: Run) -> Iterable[str]:
    """The same, but for the errors."""
    header, first = run.header, run.header.sessions[0]
    title = header.study.get("title")
    yield f"Study {header.study_name}-{header.study_hash[:8]}{f': {title}' if title else ''}"
    yield f"{len(run.records)} of {header.planned} planned episodes are recorded" + (
        "." if len(run.records) >= header.planned else "; the same run command continues."
    )
    yield from _provenance(first)
    yield from caveat_lines(run)


def caveat_lines(run: Run) -> Iterable[str]:
    """What stands against the numbers of a run, but for the errors."""
    header = run.header
    yield from _changes(header)
    yield from _assets(header)
    yield from _timing(header)
    marks = sorted({record.fingerprint for record in run.records if record.fingerprint})
    if len(marks) > 1:
        yield f"The records carry {len(marks)} fingerprints ({', '.join(marks)}): no single table should."
    if run.superseded:
        yield f"{run.superseded} records were superseded by another record of the same episode and arm."
    if surplus := len(header.surplus):
        yield f"{surplus} records are of episodes that were not needed any more; they are not counted."
    yield from run.problems


def _provenance(session: Session) -> Iterable[str]:
    dirty = " with uncommitted changes" if session.git_dirty else ""
    commit = f"commit {session.git_commit[:12]}{dirty}; " if session.git_commit else ""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(session.versions.items()))
    yield f"Versions: {commit}Python {session.python}; {versions}."
    yield (
        f"Machine: {session.platform}; policies on {session.device}; GL renderer "
        f"{session.gl_renderer or 'not used'}; fingerprint {session.fingerprint or 'not taken'}."
    )


def _changes(header: RunHeader) -> Iterable[str]:
    """What later sessions of the run found different from the first."""
    first = header.sessions[0]
    for session in header.sessions[1:]:
        old, new = _conditions(first), _conditions(session)
        different = [
            f"{name}: {old.get(name)} before, {new.get(name)} then"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
        if different:
            yield f"The session of {session.started_at} ran under other conditions ({'; '.join(different)})."


def _conditions(session: Session) -> dict[str, Any]:
    """Everything in a session that may change results, by name."""
    return session.model_dump(exclude={"started_at", "command", "versions"}) | session.versions


def _assets(header: RunHeader) -> Iterable[str]:
    stand_ins = {name for session in header.sessions if session.assets for name in session.assets.stand_ins}
    missing = {name for session in header.sessions if session.assets for name in session.assets.missing}
    if stand_ins:
        yield (
            f"STAND-IN ASSETS: {len(stand_ins)} asset files are stand-ins: pictures differ from the original "
            "ones, and no visual policy can be scored with them; physics and success tests are not affected."
        )
    if missing:
        yield f"{len(missing)} asset files are missing, for example {min(missing)}."


MEANWHILE = {
    "goal": "keeps its last goal",
    "null": "stands still where it is",
    "repeat": "repeats its last motion",
}


def _timing(header: RunHeader) -> Iterable[str]:
    """What the robot did while it waited, and which delays cannot be repeated."""
    for suite, rule in header.stale.items():
        yield f"While no fresh action is there, the robot of {suite} {MEANWHILE[rule]} (stale = {rule!r})."
    if header.study.get("phase") == "drawn":
        yield "The world is ahead of the policy's clock by a part of a period, drawn for each episode."
    live = [name for name, latency in header.latencies.items() if not latency.deterministic]
    if live:
        yield (f"NOT REPRODUCIBLE: latency {', '.join(live)} is what inference took here while it ran.")


def error_lines(records: Iterable[Record]) -> Iterable[str]:
    """The errors by arm and message, the most frequent first."""
    counts = Counter(
        (record.arm.key, record.error.type, record.error.message.partition("\n")[0])
        for record in records
        if record.error is not None
    )
    for (arm, kind, message), count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield f"{count} errors of {arm}: {kind}: {message}"
