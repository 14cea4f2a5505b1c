"""What studies of timing share: still and moving targets apart, arms that differ in latency alone, claims.

A policy that hardly ever succeeds without latency has nothing to lose to it: no claim is made there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from vla_bench.account.cells import varied
from vla_bench.account.counted import Counted
from vla_bench.run.records import Record, RunHeader
from vla_bench.types import Arm, Episode

# Below this rate at zero latency nothing is claimed about what latency does.
LEAST_RATE = 0.3
STILL, MOVING = "still targets", "moving targets"
KINDS = {True: MOVING, False: STILL, None: ""}

Outcomes = Mapping[Arm, Mapping[Episode, Record]]


@dataclass(frozen=True, slots=True)
class Scope:
    """Episodes that are judged together.

    Attributes:
        suite: Whose they are.
        place: Suite or task, with the variation where targets stand still; those that move are together.
        moving: Whether targets move by themselves; None where the run does not say.
        outcomes: Arm → its records that count.
    """

    suite: str
    place: str
    moving: bool | None
    outcomes: Outcomes

    @property
    def name(self) -> str:
        """Place and kind of target."""
        return ", ".join(filter(None, (self.place, KINDS[self.moving])))


def by_suite(counted: Counted) -> list[Scope]:
    """Scopes of whole suites."""
    return _scopes(counted, lambda suite, task: suite)


def by_task(counted: Counted) -> list[Scope]:
    """Scopes of single tasks."""
    return _scopes(counted, lambda suite, task: task)


def _scopes(counted: Counted, named: Callable[[str, str], str]) -> list[Scope]:
    moving = None if counted.header.moving is None else set(counted.header.moving)
    found: dict[tuple[str, str, bool | None], dict[Arm, dict[Episode, Record]]] = {}
    boards = {board.suite: board for board in counted.boards}
    for place in counted.places:
        for arm, task in product(place.outcomes, outcomes := boards[place.suite].outcomes[place.variation]):
            if counts := outcomes[task][arm].counted:
                moves = None if moving is None else f"{task}|{place.variation}" in moving
                name = named(place.suite, task)
                name = name if moves else varied(name, place.variation)
                found.setdefault((place.suite, name, moves), {}).setdefault(arm, {}).update(counts)
    return [Scope(*key, outcomes) for key, outcomes in found.items()]


def latency_ms(header: RunHeader, arm: Arm) -> float | None:
    """Median latency of an arm; None where it was not known before the run."""
    known = header.latencies.get(arm.latency)
    return None if known is None else known.median_ms


def without_latency(arm: Arm) -> Arm:
    """What arms that differ in latency alone have in common."""
    return replace(arm, latency="")


def shared(outcomes: Outcomes, arms: Sequence[Arm]) -> list[Episode]:
    """Episodes that count for every one of some arms."""
    first, *others = (outcomes.get(arm, {}) for arm in arms)
    return [episode for episode in first if all(episode in other for other in others)]


def succeeded(outcomes: Outcomes, arm: Arm, episodes: Sequence[Episode]) -> list[bool]:
    """Whether an arm succeeded in each of some episodes."""
    return [outcomes[arm][episode].status == "success" for episode in episodes]


def no_claim(successes: int | None, n: int) -> str:
    """Why nothing is claimed, from successes at zero latency (None: not run); "" where something may be."""
    if successes is None or n == 0:
        return "no claim: zero latency was not run"
    if successes >= LEAST_RATE * n:
        return ""
    return f"no claim: rate at zero latency is {100 * successes / n:.1f} % ({successes}/{n})"
