"""What is handed to a worker at a time, in which order, and how often."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from vla_bench.run.plan import WorkItem

# How often an item is played again after whoever played it died.
RETRIES = 2


@dataclass(frozen=True, slots=True)
class Unit:
    """The items of one episode, arm after arm as in the plan, so that pairs are complete early."""

    items: tuple[WorkItem, ...]

    @property
    def task_id(self) -> str:
        """The task of all of them."""
        return self.items[0].episode.task_id

    def after(self, keys: Iterable[str]) -> tuple[WorkItem, ...]:
        """The items whose keys are not among `keys`."""
        done = frozenset(keys)
        return tuple(item for item in self.items if item.key not in done)


def units_of(items: Iterable[WorkItem]) -> list[Unit]:
    """Neighbouring items of the same episode, unit by unit."""
    return [Unit(tuple(group)) for _, group in groupby(items, key=lambda item: item.episode)]


class Schedule:
    """The units that are still to be played, task by task.

    A worker stays with its task as long as there is something to do, because another one must be compiled.

    Args:
        units: In the order of the plan.
    """

    def __init__(self, units: Iterable[Unit]) -> None:
        self._waiting: dict[str, deque[Unit]] = {}
        for unit in units:
            self._waiting.setdefault(unit.task_id, deque()).append(unit)
        self._playing: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def take(self, task_id: str | None = None) -> Unit | None:
        """The next unit for a worker: of the task that it has, else of the one that fewest play."""
        if not self._waiting:
            return None
        if task_id not in self._waiting:
            task_id = min(self._waiting, key=lambda name: self._playing[name])
        unit = self._waiting[task_id].popleft()
        if not self._waiting[task_id]:
            del self._waiting[task_id]
        self._playing[task_id] += 1
        return unit

    def over(self, unit: Unit) -> None:
        """A unit is not being played any more."""
        self._playing[unit.task_id] -= 1

    def put_back(self, items: tuple[WorkItem, ...]) -> None:
        """Items of a unit whose worker died: they come next."""
        if items:
            unit = Unit(items)
            self._waiting.setdefault(unit.task_id, deque()).appendleft(unit)

    def died(self, item: WorkItem) -> bool:
        """Somebody died while playing an item; returns whether it is to be played again."""
        self._deaths[item.key] += 1
        return self._deaths[item.key] <= RETRIES
