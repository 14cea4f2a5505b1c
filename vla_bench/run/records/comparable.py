"""Whether runs may stand in one table: what around them changes physics, pixels or numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vla_bench.run.records.header import RunHeader, Session


def incomparable(headers: Sequence[RunHeader]) -> list[str]:
    """Sentences on what stands against comparing the runs with these headers; none where nothing does.

    Differences count between any two sessions of any two runs, and within a run: of fingerprints (that of a
    run in which nothing looked may lack the pixels), of versions that both name, of the files of a policy's
    checkpoint that both name, and of the asset files that stand in for others. The device is not among them:
    comparing devices is what studies are for.
    """
    sessions = [(name_of(header), session) for header in headers for session in header.sessions]
    return [
        *_fingerprints(sessions),
        *_differing(
            "{} is {}: versions change physics, pixels or numbers",
            ((run, session.versions) for run, session in sessions),
        ),
        *_differing(
            "file {} of a checkpoint is {}: these are different weights under one name",
            ((run, _checkpoint_files(session)) for run, session in sessions),
        ),
        *_stand_ins(sessions),
    ]


def name_of(header: RunHeader) -> str:
    """A run's name in a sentence: that of its study, and when it began."""
    return f"{header.study_name}-{header.study_hash[:8]} of {header.sessions[0].started_at}"


def _fingerprints(sessions: Sequence[tuple[str, Session]]) -> list[str]:
    found: dict[str, str] = {}
    for run, session in sessions:
        if session.fingerprint is not None:
            found.setdefault(session.fingerprint, run)
    # without pictures a fingerprint ends where that of pictures begins
    longest = [mark for mark in found if not any(other.startswith(f"{mark}-") for other in found)]
    if len(longest) < 2:
        return []
    said = ", ".join(f"{mark} ({found[mark]})" for mark in longest)
    return [f"fingerprints differ, so physics or pictures do: {said}"]


def _differing(sentence: str, sides: Iterable[tuple[str, Mapping[str, str]]]) -> list[str]:
    """A sentence for each name that has several values."""
    found: dict[str, dict[str, str]] = {}
    for run, values in sides:
        for name, value in values.items():
            found.setdefault(name, {}).setdefault(value, run)
    return [
        sentence.format(name, " and ".join(f"{value} ({run})" for value, run in values.items()))
        for name, values in sorted(found.items())
        if len(values) > 1
    ]


def _checkpoint_files(session: Session) -> dict[str, str]:
    """`policy: file` → the beginning of its digest."""
    return {
        f"{policy}: {file}": digest[:12]
        for policy, files in session.checkpoints.items()
        for file, digest in files.items()
    }


def _stand_ins(sessions: Sequence[tuple[str, Session]]) -> list[str]:
    found: dict[frozenset[str], str] = {}
    for run, session in sessions:
        if session.assets is not None:
            found.setdefault(frozenset(session.assets.stand_ins), run)
    if len(found) < 2:
        return []
    counts = ", ".join(f"{len(files)} in {run}" for files, run in found.items())
    return [f"asset files are stand-ins for the original ones, and not the same ones everywhere: {counts}"]
