"""Policies around policies that answer in chunks: one action at a time, or the mean of several predictions.

Both are asked at every step and keep what belongs to the episode, so they serve one episode at a time.
`ensemble:NAME` and `receding:NAME` wrap the policy of any card.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from vla_bench.config import FileModel, parse
from vla_bench.errors import ConventionError
from vla_bench.policy.base import Policy, precision_report
from vla_bench.policy.cards import Card, load_policy
from vla_bench.types import ActionChunk, Array, Observation


class RecedingHorizon:
    """Executes the first actions of a chunk before it asks for the next one.

    Args:
        policy: Predicts chunks.
        executed: Number of actions that are taken of each.

    Raises:
        ConventionError: The policy predicts fewer.
    """

    def __init__(self, policy: Policy, executed: int) -> None:
        _require_predicted(policy, executed)
        self._policy, self._executed = policy, executed
        self.spec = replace(policy.spec, chunk_length=1)
        self.precision_report = precision_report(policy)
        self._left: deque[Array] = deque()

    def reset(self, instruction: str, seed: int) -> None:
        """Begin an episode; what is left of a chunk belongs to the last one."""
        self._policy.reset(instruction, seed)
        self._left.clear()

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return the next action, (1, A); it takes time only where the policy is asked."""
        timings_ms = {"inference": 0.0}
        if not self._left:
            chunk = self._policy.act(observations)
            self._left.extend(chunk.actions[: self._executed])
            timings_ms = dict(chunk.timings_ms)
        return ActionChunk(self._left.popleft()[None], timings_ms)


class TemporalEnsemble:
    """Averages what the last few chunks predicted for the present step.

    The i-th oldest prediction has the weight exp(−weight · i): with 0 all count the same, and the larger the
    weight, the more the older ones count.

    Args:
        policy: Predicts chunks; asked at every step.
        predictions: Most chunks that are averaged; None takes as many as a chunk has actions.
        weight: See above.

    Raises:
        ConventionError: A chunk has fewer actions than predictions are to be averaged.
    """

    def __init__(self, policy: Policy, predictions: int | None = None, weight: float = 0.0) -> None:
        count = policy.spec.chunk_length if predictions is None else predictions
        _require_predicted(policy, count)
        self._policy, self._weight = policy, weight
        self.spec = replace(policy.spec, chunk_length=1)
        self.precision_report = precision_report(policy)
        self._chunks: deque[Array] = deque(maxlen=count)

    def reset(self, instruction: str, seed: int) -> None:
        """Begin an episode, of which nothing has been predicted."""
        self._policy.reset(instruction, seed)
        self._chunks.clear()

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return the mean prediction for now, (1, A)."""
        chunk = self._policy.act(observations)
        self._chunks.append(np.asarray(chunk.actions))
        # the oldest first: what it said about now is furthest down in it
        ages = range(len(self._chunks) - 1, -1, -1)
        predicted = np.stack([past[age] for past, age in zip(self._chunks, ages, strict=True)])
        weights = np.exp(-self._weight * np.arange(len(predicted)))
        return ActionChunk(np.average(predicted, axis=0, weights=weights)[None], chunk.timings_ms)


class _Options(FileModel):
    policy: str


class _RecedingOptions(_Options):
    executed: int | None = Field(default=None, gt=0)


class _EnsembleOptions(_Options):
    predictions: int | None = Field(default=None, gt=0)
    weight: float = Field(default=0.0, allow_inf_nan=False)


def receding(card: Card, precision: str) -> RecedingHorizon:
    """Build the policy that the card's option `policy` names, one action at a time.

    Raises:
        ConventionError: No policy is named, or it predicts fewer actions than are to be executed.
    """
    _require_named(card)
    options = parse(_RecedingOptions, card.options, card.source, at="options")
    policy = load_policy(options.policy, precision)
    return RecedingHorizon(policy, options.executed or policy.spec.chunk_length)


def ensemble(card: Card, precision: str) -> TemporalEnsemble:
    """Build the policy that the card's option `policy` names, averaged over time.

    Raises:
        ConventionError: No policy is named, or it predicts fewer actions than are to be averaged.
    """
    _require_named(card)
    options = parse(_EnsembleOptions, card.options, card.source, at="options")
    return TemporalEnsemble(load_policy(options.policy, precision), options.predictions, options.weight)


def _require_named(card: Card) -> None:
    if not card.options.get("policy"):
        raise ConventionError(f"policy {card.name!r} wraps another one: {card.name}:NAME")


def _require_predicted(policy: Policy, wanted: int) -> None:
    length = policy.spec.chunk_length
    if not 1 <= wanted <= length:
        raise ConventionError(f"{type(policy).__name__} predicts {length} action(s), {wanted} are asked for")
