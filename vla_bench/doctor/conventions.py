"""Whether a card says the truth: what the policy does with demonstrations, as declared and otherwise.

An alternative is only believed if it is better than what the card says (Holm's method, 5 %), better than a
constant command, and if under it the policy does worse with the pictures of another episode. Otherwise the
verdict is that this cannot be told, and why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vla_bench.doctor import verdict
from vla_bench.doctor.alternatives import alternatives, declared
from vla_bench.doctor.checks import Check
from vla_bench.doctor.examination import LEVEL, Examination, Finding
from vla_bench.doctor.pairs import Evidence
from vla_bench.doctor.scoring import least_p
from vla_bench.errors import ConventionError
from vla_bench.policy.base import Policy


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        source: What the policy was compared with.
        episodes, pairs: How much of it.
        checks: The findings in words.
        declared: How the policy does as its card says.
        alternatives: How it does otherwise, the most better first.
    """

    source: str
    episodes: int
    pairs: int
    checks: tuple[Check, ...]
    declared: Finding
    alternatives: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as JSON values."""
        return asdict(self)


def diagnose(policy: Policy, evidence: Evidence, on_ask: Callable[[], None] = lambda: None) -> Diagnosis:
    """Compare a policy's answers with demonstrations, as its card says and with every single change.

    Args:
        policy: Looks at pictures.
        evidence: What it is compared with.
        on_ask: Called after every answer.

    Raises:
        ConventionError: It looks at no picture, or the episodes are too few to show anything.
    """
    require_pictures(policy)
    said, ways = declared(policy), alternatives(policy)
    require_episodes(len(evidence.episodes), len(ways))
    examined = Examination(evidence, on_ask)
    own = examined.commands(said)
    told, of = examined.finding(said, own), (evidence.source, len(evidence.episodes), len(evidence.pairs))
    if np.ptp(own, axis=0).max() == 0:
        return Diagnosis(*of, (verdict.constant(own[0]),), told)
    told = examined.with_pictures(told, said)
    found = examined.findings(ways, own)
    checks = (verdict.verdict(told, found, evidence), verdict.size(told, evidence))
    return Diagnosis(*of, checks, told, tuple(sorted(found, key=lambda f: f.error - f.declared)))


def questions(policy: Policy, evidence: Evidence) -> int:
    """How often `diagnose` asks, if no alternative is better: as declared twice, and otherwise once."""
    asked = {id(way.asked) for way in (declared(policy), *alternatives(policy))}
    return (len(asked) + 1) * len(evidence.pairs)


def require_pictures(policy: Policy) -> None:
    """Refuse a policy that cannot be examined.

    Raises:
        ConventionError: It looks at no picture.
    """
    if policy.spec.privileged or not policy.spec.cameras:
        raise ConventionError("this policy looks at no picture, so there is nothing to examine")


def require_episodes(count: int, ways: int) -> None:
    """Refuse episodes that could not show a difference.

    Raises:
        ConventionError: They are too few for so many alternatives; says how many it takes.
    """
    if least_p(count) * ways >= LEVEL:
        needed = next(n for n in range(count, 64) if least_p(n) * ways < LEVEL)
        raise ConventionError(
            f"{count} episodes cannot show a difference among {ways} alternatives; it takes {needed} at least"
        )
