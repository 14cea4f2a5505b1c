"""Our rate against a published one: reproduced, not reproduced, inconclusive, or not comparable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vla_bench.account.statistics.equivalence import unpaired_equivalence
from vla_bench.account.statistics.unpaired import unpaired_difference

Word = Literal["reproduced", "not reproduced", "inconclusive", "not comparable"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be said.

    Attributes:
        p_equivalent: Null: the rates differ by the margin or more; None where not tested.
        p_different: Null: the rates are the same; None where not tested.
        reason: The test, or why there is none.
    """

    word: Word
    p_equivalent: float | None
    p_different: float | None
    reason: str


def against_published(
    successes: int,
    n: int,
    published: float,
    *,
    published_n: int | None = None,
    margin: float = 0.05,
    alpha: float = 0.05,
    incomparable: str = "",
) -> Verdict:
    """Compare successes of n independent episodes with a published rate in [0, 1].

    Reproduced: the difference is shown to be below the margin. Not reproduced: that is not shown, and the
    rates are shown to differ. Inconclusive: neither; more episodes would tell. Each of the first two words is
    wrong with probability at most about alpha: the one if the rates differ by the margin, the other if they
    are the same. With `published_n` both rates have errors (score tests); without it the published one is
    taken as exactly known, which the reason says (exact binomial tests).

    Args:
        successes: Of our episodes.
        n: Of our episodes.
        published: The published rate.
        published_n: Its episodes; half credits are rounded to whole successes.
        margin: What counts as the same: 0.05 is five points.
        alpha: Level of each test.
        incomparable: Why the two are not of one thing (other episodes, another robot); "" if they are.

    Raises:
        ValueError: The rate is not in [0, 1].
    """
    if not 0 <= published <= 1:
        raise ValueError(f"published rate {published:g}: a share between 0 and 1, not a percentage")
    if incomparable or n == 0:
        return Verdict("not comparable", None, None, incomparable or "no episodes of ours")
    if published_n:
        equal, different, test = _with_error(successes, n, published, published_n, margin)
    else:
        equal, different, test = _exactly_known(successes, n, published, margin)
    reason = f"{test}, margin {100 * margin:g} points"
    if equal <= alpha:
        return Verdict("reproduced", equal, different, reason)
    return Verdict("not reproduced" if different <= alpha else "inconclusive", equal, different, reason)


def _exactly_known(successes: int, n: int, published: float, margin: float) -> tuple[float, float, str]:
    """Exact binomial tests; a bound beyond 0 or 1 cannot be passed, so that its side is certain."""
    from scipy.stats import binomtest

    low, high = published - margin, published + margin
    above = float(binomtest(successes, n, low, alternative="greater").pvalue) if low >= 0 else 0.0
    below = float(binomtest(successes, n, high, alternative="less").pvalue) if high <= 1 else 0.0
    different = float(binomtest(successes, n, published).pvalue)
    return max(above, below), different, "exact binomial TOST, the published rate taken as known"


def _with_error(
    successes: int, n: int, published: float, published_n: int, margin: float
) -> tuple[float, float, str]:
    theirs = (round(published * published_n), published_n)
    same = unpaired_equivalence((successes, n), theirs, margin)
    differ = unpaired_difference((successes, n), theirs, 0.95)
    assert same is not None  # both have episodes
    assert differ is not None
    return same.p_equivalent, differ.p_value, f"TOST by {same.test}, difference by {differ.test}"
