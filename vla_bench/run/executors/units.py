"""What is handed to a worker at a time: an episode under all its arms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from vla_bench.run.plan import WorkItem


@dataclass(frozen=True, slots=True)
class Unit:
    """The items of one episode, in the order of the plan, so that pairs are complete early."""

    items: tuple[WorkItem, ...]

    @property
    def task_id(self) -> str:
        """The task of all of them."""
        return self.items[0].episode.task_id


def units_of(items: Iterable[WorkItem]) -> list[Unit]:
    """Neighbouring items of the same episode, unit by unit."""
    return [Unit(tuple(group)) for _, group in groupby(items, key=lambda item: item.episode)]
