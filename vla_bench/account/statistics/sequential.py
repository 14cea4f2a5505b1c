"""A test of two paired arms that may be looked at after every pair: an e-process on discordant pairs.

Null: whatever came before, at a discordant pair either arm is as likely to be the one that succeeded. The
evidence is a mixture of likelihood ratios over the share θ of discordant pairs that the first arm wins, with
Jeffreys' prior Beta(1/2, 1/2) (Robbins 1970; Krichevsky and Trofimov 1981). It is a martingale with mean 1
under the null, so that P(it ever reaches 1/alpha) <= alpha (Ville 1939) at any time of looking.

Plain arithmetic, for a run asks after every record.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, lgamma, log

from vla_bench.account.statistics.values import Interval

_PRIOR = 0.5


def log_e_value(first_only: int, second_only: int) -> float:
    """Return ln e = ln B(b + ½, c + ½) - ln B(½, ½) + (b + c) ln 2; 0 without discordant pairs."""
    return _log_evidence(first_only, second_only) + (first_only + second_only) * log(2)


def anytime_p(highest_log_e: float) -> float:
    """min(1, 1 / e): valid whenever the run is stopped; give it the highest ln e so far."""
    return min(1.0, exp(-highest_log_e))


def share_interval(first_only: int, second_only: int, confidence: float) -> Interval:
    """Anytime-valid interval of θ, the share of discordant pairs that the first arm wins.

    All θ that the same mixture does not reject: B(b + ½, c + ½) / (B(½, ½) θ^b (1 - θ)^c) < 1 / alpha. It
    covers at every pair at once with the given confidence; without discordant pairs it is [0, 1].
    """
    b, c = first_only, second_only
    if b + c == 0:
        return Interval(0.0, 1.0)
    bound, best = -log(1 - confidence), b / (b + c)

    def rejected(share: float) -> bool:
        return _log_evidence(b, c) - _times_log(b, share) - _times_log(c, 1 - share) >= bound

    return Interval(_boundary(rejected, 0.0, best), _boundary(rejected, 1.0, best))


def _log_evidence(b: int, c: int) -> float:
    return _log_beta(b + _PRIOR, c + _PRIOR) - _log_beta(_PRIOR, _PRIOR)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _times_log(count: int, share: float) -> float:
    """Return count · ln share, where 0 · ln 0 = 0."""
    return 0.0 if count == 0 else count * log(share) if share > 0 else -inf


def _boundary(rejected: Callable[[float], bool], outside: float, inside: float) -> float:
    """Where `rejected` changes between a rejected and a kept share, by bisection; `outside` if it is kept."""
    if not rejected(outside):
        return outside
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if rejected(middle) else (outside, middle)
    return outside
