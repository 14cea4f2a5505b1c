"""The expert made worse by known amounts: the truth for tests of everything that compares policies.

Nothing here is quantised: a precision is a name under which an amount is planted. Whether an episode fails is
decided by one number of the episode, the same at all precisions, latencies and pacings: with the chance p it
fails if that number is below p. So the episodes that fail with a small chance are among those that fail with
a larger one, as the hard episodes of a task are, and arms are as strongly paired as they can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from vla_bench import seeding
from vla_bench.config import parse
from vla_bench.policy.cards import Card
from vla_bench.policy.scripted.expert import Expert, Manner
from vla_bench.types import ActionChunk, Observation

STILL = ActionChunk(np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]]))


def _by_precision(given: Any) -> Any:
    """`0.2`, `bnb_int8=0.2+bnb_fp4=0.1`, a number, or a table, as a table; "" stands for every precision."""
    if isinstance(given, str):
        parts = [part.rpartition("=") for part in given.split("+")]
        given = {name: amount for name, _, amount in parts}
    return given if isinstance(given, Mapping) else {"": given}


Chances = Annotated[
    dict[str, Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]], BeforeValidator(_by_precision)
]
Delays = Annotated[
    dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], BeforeValidator(_by_precision)
]


class Amounts(Manner):
    """What is planted: each for all precisions, or precision by precision (none for those not named).

    Attributes:
        failing: Chance that an episode fails: the policy stands still from its second answer on.
        failing_slowly: The chance instead of `failing` once two of its observations lay more than `slow_ms`
            apart, as they do where inference takes long and the world does not wait; None: the same.
        slow_ms: See above, in simulated milliseconds.
        eagerness, period_s: The expert's (`expert.Manner`).
        late_ms: Acts on what was to be seen so long ago, and stands still until there is something.
    """

    failing: Chances = Field(default_factory=dict)
    failing_slowly: Chances | None = None
    slow_ms: float = Field(default=500.0, gt=0, allow_inf_nan=False)
    late_ms: Delays = Field(default_factory=dict)


def amount(amounts: Mapping[str, float], precision: str) -> float:
    """What a table plants at a precision."""
    return amounts.get(precision, amounts.get("", 0.0))


class DegradedExpert:
    """The expert, failing or late by what its card's options say (`Amounts`)."""

    spec = Expert.spec

    def __init__(self, card: Card, precision: str) -> None:
        planted = parse(Amounts, card.options, card.source, at="options")
        slowly = planted.failing if planted.failing_slowly is None else planted.failing_slowly
        self._chance, self._slow_chance = amount(planted.failing, precision), amount(slowly, precision)
        self._slow_ns = planted.slow_ms * 1e6
        self._late_ns = amount(planted.late_ms, precision) * 1e6
        manner = planted.model_dump(include=set(Manner.model_fields))
        self._expert = Expert(card.model_copy(update={"options": manner}), precision)
        self.reset("", 0)

    def reset(self, instruction: str, seed: int) -> None:
        """Begin an episode; its number follows from `seed`."""
        self._number = float(seeding.generator("policy", "degraded", seed).uniform())
        self._is_slow = False
        self._seen: list[Observation] = []
        self._expert.reset(instruction, seed)

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return one action: the expert's, or none."""
        now = observations[-1]
        if self._seen:
            self._is_slow |= now.time_ns - self._seen[-1].time_ns > self._slow_ns
            if self._number < (self._slow_chance if self._is_slow else self._chance):
                self._seen = [now]
                return STILL
        self._seen.append(now)
        old = [seen for seen in self._seen if now.time_ns - seen.time_ns >= self._late_ns]
        if not old:
            return STILL
        self._seen = self._seen[len(old) - 1 :]
        return self._expert.act([old[-1]])
