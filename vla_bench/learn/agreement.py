"""How well answers agree with demonstrations and with each other: pure functions of arrays.

Every answer belongs to one observation; T actions of A numbers. What lies beyond the end of an episode was
not demonstrated and does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_bench.types import Array


@dataclass(frozen=True, slots=True)
class Answers:
    """What one arm answered to N observations.

    Attributes:
        episode: (N,) number of the episode that each observation belongs to.
        actions: (N, T, A) what it said.
        shown: (N, T, A) what was demonstrated, NaN where nothing was.
        tokens: (N, T, A) ids of its tokens, or None without tokens.
        shown_tokens: (N, T, A) ids that stand for what was demonstrated.
        log_probs: (N, T, A, K) its certainty; see `base.TokenAnswer`.
        autoregressive: Whether a token depends on those before it.
    """

    episode: NDArray[np.int64]
    actions: Array
    shown: Array
    tokens: NDArray[np.int64] | None = None
    shown_tokens: NDArray[np.int64] | None = None
    log_probs: NDArray[np.float32] | None = None
    autoregressive: bool = False

    @property
    def counts(self) -> NDArray[np.bool_]:
        """(N, T, A) where something was demonstrated."""
        return ~np.isnan(self.shown)


@dataclass(frozen=True, slots=True)
class Share:
    """k of n, with a 95 % interval where there are several episodes.

    Attributes:
        low, high: Korn and Graubard's interval with episodes as clusters, or None with one episode: what is
            right or wrong within an episode is not independent.
    """

    k: int
    n: int
    low: float | None
    high: float | None

    @property
    def value(self) -> float:
        """The share itself."""
        return self.k / self.n if self.n else float("nan")


def share(hits: NDArray[np.bool_], counts: NDArray[np.bool_], episode: NDArray[np.int64]) -> Share:
    """Share of hits among what counts; arrays of shape (N, …), (N,) episode of each."""
    axes = tuple(range(1, hits.ndim))
    _, which = np.unique(episode, return_inverse=True)
    ks = np.bincount(which, (hits & counts).sum(axes))
    ns = np.bincount(which, counts.sum(axes))
    low, high = interval(ks, ns) if (ns > 0).sum() > 1 else (None, None)
    return Share(int(ks.sum()), int(ns.sum()), low, high)


def interval(ks: NDArray[Any], ns: NDArray[Any]) -> tuple[float, float]:
    """95 % interval of Σk/Σn from E > 1 clusters: Clopper–Pearson with the effective number of trials.

    That number is n over the design effect, corrected for having only E clusters (Korn and Graubard 1998);
    where all trials agree, it is E.
    """
    from scipy.stats import beta, t

    ks, ns = ks[ns > 0], ns[ns > 0]
    n, clusters = ns.sum(), len(ns)
    rate = ks.sum() / n
    variance = clusters / (clusters - 1) * np.square(ks - rate * ns).sum() / n**2
    trials = float(clusters)
    if 0 < rate < 1:
        few = (t.ppf(0.975, n - 1) / t.ppf(0.975, clusters - 1)) ** 2
        trials = min(n, rate * (1 - rate) / max(variance, 1e-12)) * few
    hits = rate * trials
    low = float(beta.ppf(0.025, hits, trials - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(0.975, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def distance(one: Array, other: Array, unit: Array) -> Array:
    """(A,) mean absolute difference in physical units, over what is not NaN in both."""
    return np.nanmean(np.abs(one - other), axis=(0, 1)) * unit


def token_accuracy(answers: Answers) -> tuple[Share, list[Share]]:
    """How many tokens are those of the demonstration: of all, and of each number of the action."""
    assert answers.tokens is not None
    hits, counts = answers.tokens == answers.shown_tokens, answers.counts
    numbers = [
        share(hits[..., i : i + 1], counts[..., i : i + 1], answers.episode) for i in range(hits.shape[-1])
    ]
    return share(hits, counts, answers.episode), numbers


def exact_match(one: NDArray[np.int64], other: NDArray[np.int64] | None, answers: Answers) -> Share:
    """How many actions have all their tokens equal."""
    hits: NDArray[np.bool_] = np.all(one == other, axis=-1)
    return share(hits, np.all(answers.counts, axis=-1), answers.episode)


def first_divergence(one: Answers, other: Answers) -> NDArray[np.int64]:
    """(N,) place of the first token in which two arms differ, in order of decoding; −1 where none does."""
    assert one.tokens is not None
    assert other.tokens is not None
    differs = (one.tokens != other.tokens).reshape(len(one.tokens), -1)
    return np.where(differs.any(1), differs.argmax(1), -1)


def divergence(reference: Answers, other: Answers, *, forced: bool) -> tuple[float, int]:
    """Mean Kullback–Leibler divergence of the action tokens from the reference, in nats, and over how many.

    Free-running tokens that follow different ones answer different questions: of an autoregressive arm only
    those up to and with the first difference count.
    """
    assert reference.log_probs is not None
    assert other.log_probs is not None
    p, q = _normalised(reference.log_probs), _normalised(other.log_probs)
    impossible = np.isneginf(p)  # adds nothing, whatever the other says
    terms = (np.exp(p) * (np.where(impossible, 0.0, p) - np.where(impossible, 0.0, q))).sum(-1)
    flat = terms.reshape(len(terms), -1)
    comparable = np.ones(flat.shape, bool)
    if reference.autoregressive and not forced:
        first = first_divergence(reference, other)
        comparable = (first[:, None] < 0) | (np.arange(flat.shape[1]) <= first[:, None])
    return float(flat[comparable].mean()), int(comparable.sum())


def _normalised(log_probs: NDArray[np.float32]) -> Array:
    """The logarithms of probabilities that sum to one in double precision, so that nothing is below zero."""
    values = log_probs.astype(np.float64)
    return values - np.logaddexp.reduce(values, axis=-1, keepdims=True)
