"""What is handed to a worker at a time, in which order, and how often."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
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


def by_task(unit: Unit) -> str:
    """Group units by their task, because the scene of another one must be compiled."""
    return unit.task_id


def in_order(unit: Unit) -> str:
    """Do not group units: a study that stops when it has decided looks at them in the order of the plan."""
    return ""


def units_of(items: Iterable[WorkItem]) -> list[Unit]:
    """Neighbouring items of the same episode, unit by unit."""
    return [Unit(tuple(group)) for _, group in groupby(items, key=lambda item: item.episode)]


class Schedule:
    """The units that are still to be played, group by group, and within a group in the order of the plan.

    A worker stays with its group as long as there is something to do.

    Args:
        units: In the order of the plan.
        group: What units have in common that are best played by the same worker.
    """

    def __init__(self, units: Iterable[Unit], group: Callable[[Unit], str]) -> None:
        self._group = group
        self._waiting: dict[str, deque[Unit]] = {}
        for unit in units:
            self._waiting.setdefault(group(unit), deque()).append(unit)
        self._playing: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def take(self, before: Unit | None = None) -> Unit | None:
        """The next unit for a worker that played `before`: of its group, else of the one that fewest play."""
        if not self._waiting:
            return None
        name = None if before is None else self._group(before)
        if name not in self._waiting:
            name = min(self._waiting, key=lambda name: self._playing[name])
        unit = self._waiting[name].popleft()
        if not self._waiting[name]:
            del self._waiting[name]
        self._playing[name] += 1
        return unit

    def over(self, unit: Unit) -> None:
        """A unit is not being played any more."""
        self._playing[self._group(unit)] -= 1

    def put_back(self, items: tuple[WorkItem, ...]) -> None:
        """Items of a unit whose worker died: they come next."""
        if items:
            unit = Unit(items)
            self._waiting.setdefault(self._group(unit), deque()).appendleft(unit)

    def died(self, item: WorkItem) -> bool:
        """Somebody died while playing an item; returns whether it is to be played again."""
        self._deaths[item.key] += 1
        return self._deaths[item.key] <= RETRIES
