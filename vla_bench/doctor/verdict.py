"""What the measurements mean, in words; no verdict without evidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_bench.doctor.checks import Check
from vla_bench.doctor.examination import LEVEL, Finding, at_limit
from vla_bench.doctor.pairs import Evidence
from vla_bench.types import Array

# a change of size may be pace; these need the size itself as evidence
SIZED = ("action scale", "normalisation")
# share of the arm's numbers at ±1, beyond that of the demonstrations, that is no pace any more
CUT_OFF = 0.25


def verdict(told: Finding, found: Sequence[Finding], evidence: Evidence) -> Check:
    """Say what is wrong with the card, that nothing is, or why that cannot be told.

    Args:
        told: How the policy does as declared.
        found: How it does otherwise.
        evidence: What it was compared with.
    """
    better = [f for f in found if f.is_better and f.follows_pictures and _size_agrees(f, told)]
    sure = [f for f in better if f.topic not in SIZED or _is_no_pace(told, evidence)]
    if sure:
        return _wrong(sure)
    if better:
        return _perhaps(min(better, key=_gain), told, evidence)
    if not told.follows_pictures:
        return _blind(told)
    if told.p_constant >= LEVEL:
        return _no_nearer(told, evidence)
    closest = min(found, key=lambda f: f.p_better)
    return Check(
        "conventions",
        "good",
        f"nothing looks wrong: error {told.error:.2f}, a constant command 1, and none of {len(found)} single "
        f"changes is better (nearest: {closest})",
    )


def constant(command: Array) -> Check:
    """Say that the policy always gives one command."""
    given = np.array2string(command, precision=2, suppress_small=True)
    return Check("conventions", "broken", f"it gives the same command whatever it is shown: {given}")


def size(told: Finding, evidence: Evidence) -> Check:
    """Compare the size of the arm's commands with what was done."""
    theirs = at_limit(evidence.done)
    return Check(
        "size",
        "note" if _is_no_pace(told, evidence) else "good",
        f"the arm's commands are {told.size:.2g} times as large as those of {evidence.source} "
        f"(up to {evidence.pace:g} either way may be pace); {told.at_limit:.0%} are at the limit, "
        f"theirs {theirs:.0%}",
    )


def _gain(finding: Finding) -> float:
    return finding.error - finding.declared


def _size_agrees(finding: Finding, told: Finding) -> bool:
    """Whether the size calls for a change of size: an unsure policy gains by small commands in any case."""
    return finding.topic not in SIZED or finding.is_nearer_in_size(told)


def _is_no_pace(told: Finding, evidence: Evidence) -> bool:
    """Whether the commands are too small or too large for another pace; large ones are cut off at ±1."""
    too_far = abs(np.log(max(told.size, 1e-9))) > np.log(evidence.pace)
    return bool(too_far) or told.at_limit - at_limit(evidence.done) > CUT_OFF


def _wrong(sure: Sequence[Finding]) -> Check:
    best: dict[str, Finding] = {}  # of every kind of change
    for finding in sorted(sure, key=_gain):
        best.setdefault(SIZED[0] if finding.topic in SIZED else finding.topic, finding)
    first, *rest = best.values()
    more = f"; better as well: {'; '.join(map(str, rest))}" if rest else ""
    return Check(
        first.topic,
        "broken",
        f"with {first.name} the error is {first.error:.2f} instead of {first.declared:.2f} (a constant "
        f"command 1, p = {first.p_better:.2g}){more}. "
        "Correct it and ask again: one change is looked for at a time",
    )


def _perhaps(best: Finding, told: Finding, evidence: Evidence) -> Check:
    return Check(
        best.topic,
        "note",
        f"{best}; but commands {told.size:.2g} times as large as those of {evidence.source} may be another "
        "pace: demonstrations that the policy was trained on (--demos) can tell",
    )


def _blind(told: Finding) -> Check:
    return Check(
        "conventions",
        "note",
        "cannot tell: the commands do not depend on the picture in a way that helps; with pictures of other "
        f"episodes they are no worse (p = {told.p_pictures:.2g}; error {told.error:.2f}, a constant command "
        "1), and no single change makes them depend on it",
    )


def _no_nearer(told: Finding, evidence: Evidence) -> Check:
    return Check(
        "conventions",
        "note",
        f"cannot tell: the commands follow the picture (p = {told.p_pictures:.2g}), but are no nearer to "
        f"{evidence.source} than a constant command (error {told.error:.2f}, a constant 1), and no single "
        "change makes them so",
    )
