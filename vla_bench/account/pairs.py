"""Two arms at one place: paired where they share episodes, else compared as independent, and said so."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from vla_bench.account.cells import Outcomes
from vla_bench.account.statistics import (
    Interval,
    PairedDifference,
    holm,
    paired_difference,
    paired_estimate,
)
from vla_bench.account.statistics.unpaired import UnpairedDifference, unpaired_difference
from vla_bench.seeding import generator
from vla_bench.types import Arm, Episode


@dataclass(frozen=True, slots=True)
class Pair:
    """Two arms compared at a place.

    Attributes:
        n_first, n_second: Episodes that were compared; the same ones where the arms are paired.
        result: None where they share neither episodes nor tasks.
        interval: Of the difference of their rates; None where nothing can be said.
        warning: Why the interval may not cover as often as it says; "" if it should.
        p_holm: Adjusted for all comparisons of the place.
        left_out: Episodes that count for one of them and that the other has not run.
        errors: Episodes of either that ended in an error.
    """

    place: str
    first: Arm
    second: Arm
    n_first: int = 0
    n_second: int = 0
    result: PairedDifference | UnpairedDifference | None = None
    interval: Interval | None = None
    warning: str = ""
    p_holm: float | None = None
    left_out: int = 0
    errors: int = 0

    @property
    def paired(self) -> PairedDifference | None:
        """The result, where the arms share episodes."""
        return self.result if isinstance(self.result, PairedDifference) else None

    @property
    def test(self) -> str:
        """Which test gave p."""
        if isinstance(self.result, UnpairedDifference):
            return f"unpaired: {self.result.test}"
        return "paired: exact McNemar" if self.result else ""


def pairs(place: str, found: Mapping[Arm, Outcomes], confidence: float) -> list[Pair]:
    """Compare every two arms of a place on the episodes that count for both."""
    compared = [_compare(place, first, second, found, confidence) for first, second in combinations(found, 2)]
    return adjusted(compared)


def adjusted(compared: Sequence[Pair]) -> list[Pair]:
    """The same comparisons with Holm's p over all of them."""
    p_values = iter(holm([pair.result.p_value for pair in compared if pair.result]))
    return [replace(pair, p_holm=next(p_values)) if pair.result else pair for pair in compared]


def best(compared: Sequence[Pair], confidence: float) -> Arm | None:
    """The arm that is significantly better than every other one, if there is one."""
    wins: defaultdict[Arm, int] = defaultdict(int)
    arms: set[Arm] = set()
    for pair in compared:
        if pair.result is None or pair.p_holm is None:
            continue
        arms |= {pair.first, pair.second}
        if pair.p_holm < 1 - confidence:
            wins[pair.first if pair.result.difference > 0 else pair.second] += 1
    return next((arm for arm, count in wins.items() if count == len(arms) - 1), None)


def _compare(place: str, one: Arm, other: Arm, found: Mapping[Arm, Outcomes], confidence: float) -> Pair:
    first, second = found[one], found[other]
    pair = Pair(place, one, other, errors=len(first.errors) + len(second.errors))
    shared = [episode for episode in first.counted if episode in second.counted]
    if not shared:
        return _unpaired(pair, first, second, confidence)
    ours, theirs = successes(first, shared), successes(second, shared)
    result = paired_difference(ours, theirs)
    rng = generator("statistics", "pair", pair.place, pair.first.key, pair.second.key)
    estimate = paired_estimate(ours, theirs, [episode.task_id for episode in shared], confidence, rng)
    return replace(
        pair, n_first=len(shared), n_second=len(shared), result=result,
        interval=estimate.interval if estimate else None, warning=estimate.warning if estimate else "",
        left_out=len(first.counted) + len(second.counted) - 2 * len(shared),
    )  # fmt: skip


def _unpaired(pair: Pair, first: Outcomes, second: Outcomes, confidence: float) -> Pair:
    """Rates over the tasks that both have run: what the tasks do must not be taken for what the arms do."""
    tasks = {episode.task_id for episode in first.counted} & {episode.task_id for episode in second.counted}
    counts = (_count(first, tasks), _count(second, tasks))
    result = unpaired_difference(counts[0], counts[1], confidence)
    return replace(
        pair, n_first=counts[0][1], n_second=counts[1][1], result=result,
        interval=result.interval if result else None,
        left_out=len(first.counted) + len(second.counted) - counts[0][1] - counts[1][1],
    )  # fmt: skip


def successes(own: Outcomes, episodes: Sequence[Episode]) -> list[bool]:
    """Whether an arm succeeded on each of some episodes that count."""
    return [own.counted[episode].status == "success" for episode in episodes]


def _count(own: Outcomes, tasks: set[str]) -> tuple[int, int]:
    """Successes and episodes on some tasks."""
    found = Counter(r.status == "success" for e, r in own.counted.items() if e.task_id in tasks)
    return found[True], found.total()
