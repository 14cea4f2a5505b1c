"""Asks a policy about demonstrations, as its card says and with every single change, and measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vla_bench import seeding
from vla_bench.doctor.alternatives import Alternative, Answers
from vla_bench.doctor.pairs import Evidence, Pair
from vla_bench.doctor.scoring import Yardstick, holm
from vla_bench.policy.base import Explanation, Policy, explain
from vla_bench.types import Array

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """How one way to understand the policy does.

    Attributes:
        topic, name: As in `Alternative`.
        error: Mean error; 1 is the best constant command.
        declared: Mean error of what the card says, judged in the same way.
        p_better: That it is no better than what the card says, adjusted for the number of alternatives.
        p_constant: That it is no better than a constant command.
        p_pictures: That the policy does no better under it than with another episode's pictures; None where
            that was not asked.
        size: Mean size of the arm's commands; 1 is that of what was done.
        at_limit: Share of the arm's numbers that are ±1.
    """

    topic: str
    name: str
    error: float
    declared: float
    p_better: float
    p_constant: float
    p_pictures: float | None
    size: float
    at_limit: float

    def __str__(self) -> str:
        return f"{self.name}: error {self.error:.2f} instead of {self.declared:.2f}, p = {self.p_better:.2g}"

    @property
    def is_better(self) -> bool:
        """Whether it is better than what the card says and than a constant command."""
        return self.p_better < LEVEL and self.p_constant < LEVEL

    @property
    def follows_pictures(self) -> bool:
        """Whether the policy under it is known to do worse with other pictures."""
        return self.p_pictures is not None and self.p_pictures < LEVEL

    def is_nearer_in_size(self, than: Finding) -> bool:
        """Whether the arm's commands are nearer in size to what was done."""
        return abs(np.log(max(self.size, 1e-9))) < abs(np.log(max(than.size, 1e-9)))


class Examination:
    """Asks about every pair, each way once.

    Args:
        evidence: What the policy is asked about.
        on_ask: Called after every answer.
    """

    def __init__(self, evidence: Evidence, on_ask: Callable[[], None]) -> None:
        self._pairs, self._on_ask = evidence.pairs, on_ask
        strangers = others(evidence.groups)
        self._shuffled = [
            with_pictures_of(pair, self._pairs[other])
            for pair, other in zip(self._pairs, strangers, strict=True)
        ]
        self._known: dict[tuple[int, bool], Answers] = {}
        self.yardstick = Yardstick(evidence.done, evidence.groups)

    def commands(self, way: Alternative, *, shuffled: bool = False) -> Array:
        """(N, A) what the policy says under an alternative, to its own pictures or to those of others."""
        key = id(way.asked), shuffled
        if key not in self._known:
            self._known[key] = list(self._ask(way.asked, self._shuffled if shuffled else self._pairs))
        return way.read(self._known[key])

    def _ask(self, policy: Policy, pairs: Sequence[Pair]) -> Iterator[Explanation]:
        for pair in pairs:
            policy.reset(pair.seen[-1].instruction, 0)
            yield explain(policy, pair.seen)
            self._on_ask()

    def finding(self, way: Alternative, own: Array) -> Finding:
        """How an alternative does; `own` is what the policy says as declared."""
        measure, commands = self.yardstick, self.commands(way)
        errors, said = measure.errors(commands, way.judge), measure.errors(own, way.judge)
        return Finding(
            way.topic, way.name, float(errors.mean()), float(said.mean()), measure.p_less(errors, said),
            measure.p_less(errors, measure.constant(way.judge)), None, measure.size(commands),
            at_limit(commands),
        )  # fmt: skip

    def with_pictures(self, finding: Finding, way: Alternative) -> Finding:
        """The finding, with whether the policy follows the pictures under it."""
        measure = self.yardstick
        right, wrong = (measure.errors(self.commands(way, shuffled=s), way.judge) for s in (False, True))
        return replace(finding, p_pictures=measure.p_less(right, wrong))

    def findings(self, ways: Sequence[Alternative], own: Array) -> list[Finding]:
        """How every alternative does; of those that come to the same commands, the first."""
        kept: list[Alternative] = []
        known = [own]
        for way in ways:
            commands = self.commands(way)
            if not any(np.array_equal(commands, other) for other in known):
                kept.append(way)
                known.append(commands)
        found = [self.finding(way, own) for way in kept]
        adjusted = holm(np.array([finding.p_better for finding in found]))
        found = [replace(f, p_better=float(p)) for f, p in zip(found, adjusted, strict=True)]
        return [self.with_pictures(f, way) if f.is_better else f for f, way in zip(found, kept, strict=True)]


def at_limit(commands: Array) -> float:
    """Share of the arm's numbers that are ±1."""
    return float(np.mean(np.abs(commands[:, :-1]) > 0.999))


def others(groups: np.ndarray) -> list[int]:
    """For every pair the index of one of another episode, drawn at random."""
    stream = seeding.generator("statistics", "doctor", len(groups))
    return [int(stream.choice(np.flatnonzero(groups != group))) for group in groups]


def with_pictures_of(pair: Pair, other: Pair) -> Pair:
    """The pair with the pictures of another one, everything else as it was."""
    seen = zip(pair.seen, other.seen, strict=True)
    return replace(pair, seen=tuple(replace(mine, images=theirs.images) for mine, theirs in seen))
