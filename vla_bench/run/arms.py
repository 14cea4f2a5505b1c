"""The arms of a study: its lists crossed with each other, as far as the policies' cards go."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vla_bench.errors import VlaBenchError
from vla_bench.policy.cards import read_card
from vla_bench.types import Arm


@dataclass(frozen=True, slots=True)
class Crossed:
    """The arms of a cross product.

    Attributes:
        arms: Those that are run, or that the plan refuses.
        left_out: Those whose policy has no such precision, while it has another of the study's.
    """

    arms: tuple[Arm, ...]
    left_out: tuple[Arm, ...]


def cross(
    policies: Sequence[str],
    precisions: Sequence[str],
    pacings: Sequence[str],
    latencies: Sequence[str],
    chunks: Sequence[int],
) -> Crossed:
    """Cross lists of a study.

    Without precisions every policy has the first of its card. A pair of policy and precision that the card
    does not list is left out, unless nothing would then be left of the policy or of the precision: the plan
    refuses these.
    """
    known = {policy: _precisions(policy) for policy in policies}
    pairs = [
        (policy, precision)
        for policy in policies
        for precision in precisions or (known[policy] or (Arm(policy).precision,))[:1]
    ]
    fitting = [(policy, precision) for policy, precision in pairs if precision in (known[policy] or ())]
    used = [{pair[i] for pair in fitting} for i in (0, 1)]
    spared = {pair for pair in pairs if pair not in fitting and pair[0] in used[0] and pair[1] in used[1]}
    lists = (pacings, latencies, chunks or (None,))
    arms = [Arm(*pair, *rest) for pair in pairs for rest in itertools.product(*lists)]
    return Crossed(
        tuple(arm for arm in arms if (arm.policy, arm.precision) not in spared),
        tuple(arm for arm in arms if (arm.policy, arm.precision) in spared),
    )


def first_precision(policy: str) -> str:
    """The precision of a policy for which none is named: the first of its card."""
    return (_precisions(policy) or (Arm(policy).precision,))[0]


def listed(policy: str, precisions: Iterable[str]) -> tuple[str, ...]:
    """Those of `precisions` that a policy's card lists."""
    known = _precisions(policy) or ()
    return tuple(precision for precision in precisions if precision in known)


def _precisions(policy: str) -> tuple[str, ...] | None:
    """Those of the policy's card; None if it cannot be read, which the plan will say."""
    try:
        return read_card(policy).precisions
    except VlaBenchError:
        return None
