"""`stop = "decided"`: comparisons of arms end when a test that may be looked at any time has decided.

Two arms on one suite and variation are compared by the e-process of `account.statistics.sequential`. A pair
enters when both records are there and those of all earlier pairs are: in the order of the plan, so that the
decision is the same whatever order records come in, and from however many workers. Such a plan goes round by
round, one episode of every task, for a decision after the first tasks alone would be about these.

Evidence is asked for against alpha / m, with alpha = 1 - confidence and m the comparisons of the whole plan
(Bonferroni): any false decision among all of them has probability at most alpha. The null is that neither arm
is more likely to win a discordant pair, at any task. Rates of arms that were stopped lean away from each
other; the p-value here stays valid, a fixed-n interval does not. About an arm that only
meets errors nothing is ever decided, and it keeps the others running.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from math import log

from vla_bench.account.statistics.sequential import anytime_p, log_e_value
from vla_bench.errors import VlaBenchError
from vla_bench.run.plan import Plan, WorkItem
from vla_bench.run.records import Record
from vla_bench.types import Arm, Episode

Cell = tuple[str, str]  # suite, variation


@dataclass(frozen=True, slots=True)
class Decision:
    """One arm is better than another on a suite and variation.

    Attributes:
        better, worse: The arms.
        wins, losses: Discordant pairs, of the better arm, when it was decided.
        pairs: Pairs that had entered by then, without those an error broke.
        episodes: Episodes of the plan by then; `planned` are all of this comparison.
        p_value: min(1, 1 / e), before any correction; decided at or below `level`.
    """

    suite: str
    variation: str
    better: Arm
    worse: Arm
    wins: int
    losses: int
    pairs: int
    episodes: int
    planned: int
    p_value: float
    level: float


@dataclass(slots=True)
class _Comparison:
    """Two arms of a cell: which pairs have entered, and what they say."""

    cell: Cell
    arms: tuple[Arm, Arm]
    position: int = 0  # of the next pair, in the plan's order of the cell's episodes
    won: list[int] = field(default_factory=lambda: [0, 0])
    pairs: int = 0
    log_e: float = 0.0
    decided: bool = False

    def restart(self) -> None:
        """Forget everything."""
        self.position, self.won, self.pairs, self.log_e, self.decided = 0, [0, 0], 0, 0.0, False

    def advance(
        self, episodes: list[Episode], seen: dict[tuple[Arm, Episode], bool | None], bound: float
    ) -> None:
        """Let pairs enter until one is missing or the evidence reaches `bound`."""
        while not self.decided and self.position < len(episodes):
            keys = [(arm, episodes[self.position]) for arm in self.arms]
            if not all(key in seen for key in keys):
                return
            first, second = (seen[key] for key in keys)
            self.position += 1
            if first is None or second is None:
                continue
            self.pairs += 1
            if first != second:
                self.won[0 if first else 1] += 1
                self.log_e = log_e_value(*self.won)
                self.decided = self.log_e >= bound


class Stopping:
    """Says which items of a plan need not be run, given the records so far.

    Feed it the records of the results folder, then every new one, in any order. A plan whose study says
    `stop = "never"` needs all of its items.
    """

    def __init__(self, plan: Plan, records: Iterable[Record] = ()) -> None:
        self._items = {item.key: item for item in plan.items}
        self._episodes: dict[Cell, list[Episode]] = {}
        self._place: dict[Episode, int] = {}
        self._comparisons: dict[Cell, list[_Comparison]] = {}
        self._seen: dict[tuple[Arm, Episode], bool | None] = {}
        self._arrange(plan)
        count = sum(map(len, self._comparisons.values()))
        self.level = (1 - plan.study.statistics.confidence) / max(1, count)
        for record in records:
            self.saw(record)

    def _arrange(self, plan: Plan) -> None:
        """Order the episodes of every cell, and list its comparisons."""
        arms: dict[Cell, dict[Arm, None]] = {}
        for item in plan.items:
            cell, episode = _cell(item.episode), item.episode
            arms.setdefault(cell, {})[item.arm] = None
            if episode not in self._place:
                order = self._episodes.setdefault(cell, [])
                self._place[episode] = len(order)
                order.append(episode)
        if plan.study.statistics.stop == "decided":
            self._comparisons = {
                cell: [_Comparison(cell, pair) for pair in combinations(own, 2)] for cell, own in arms.items()
            }

    def saw(self, record: Record) -> None:
        """Take a record in. An error is a pair without information, until a later record replaces it.

        Raises:
            VlaBenchError: The record is of another plan.
        """
        item = self._item(record.key)
        key = (item.arm, item.episode)
        outcome = None if record.status == "error" else record.status == "success"
        if key in self._seen and (outcome is None or self._seen[key] == outcome):
            return
        replaced = key in self._seen
        self._seen[key] = outcome
        cell = _cell(item.episode)
        for comparison in self._comparisons.get(cell, ()):
            if item.arm in comparison.arms:
                if replaced:
                    comparison.restart()
                comparison.advance(self._episodes[cell], self._seen, -log(self.level))

    def not_needed(self, item: WorkItem) -> bool:
        """Whether every comparison that the item takes part in was decided by earlier episodes.

        A record of such an item, from a worker that was already at it, changes no decision.
        """
        item = self._item(item.key)
        own = [c for c in self._comparisons.get(_cell(item.episode), ()) if item.arm in c.arms]
        return bool(own) and all(c.decided and c.position <= self._place[item.episode] for c in own)

    @property
    def saved(self) -> int:
        """Items that have no record and need none."""
        return sum(
            (item.arm, item.episode) not in self._seen and self.not_needed(item)
            for item in self._items.values()
        )

    @property
    def surplus(self) -> tuple[str, ...]:
        """Keys of the items that have a record and need none."""
        return tuple(
            item.key
            for item in self._items.values()
            if (item.arm, item.episode) in self._seen and self.not_needed(item)
        )

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What is decided, in the order of the plan's cells and arms."""
        return tuple(self._decisions())

    def _decisions(self) -> Iterator[Decision]:
        for cell, comparisons in self._comparisons.items():
            for made in comparisons:
                if made.decided:
                    better = int(made.won[1] > made.won[0])
                    worse, planned = 1 - better, len(self._episodes[cell])
                    yield Decision(
                        *cell, made.arms[better], made.arms[worse], made.won[better], made.won[worse],
                        made.pairs, made.position, planned, anytime_p(made.log_e), self.level,
                    )  # fmt: skip

    def _item(self, key: str) -> WorkItem:
        if key not in self._items:
            raise VlaBenchError(
                f"item {key!r} is not in this plan of {len(self._items)} items: another study's?"
            )
        return self._items[key]


def _cell(episode: Episode) -> Cell:
    return episode.task_id.partition("/")[0], episode.variation
