"""Which action of which chunk is to be begun at a tick.

An action fills a slot of one policy period and is given to the simulation once, when its slot begins. Ticks
count from the start of the policy's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from vla_bench.types import Array

# Weight of the k-th oldest prediction is exp(-DECAY * k), as in ACT's temporal ensembling (arXiv 2304.13705).
DECAY = 0.01


class Timeline(Protocol):
    """Turns chunks that arrive into commands that are due."""

    def accept(self, now: int, observed: int, actions: Array) -> int:
        """Take a (T, A) chunk that arrives at tick `now`; return the tick at which it is first applied."""
        ...

    def command(self, now: int) -> Array | None:
        """The (A,) action whose slot begins at tick `now`, if one does."""
        ...

    def leftover(self, now: int) -> Array | None:
        """What of the newest chunk lies after tick `now`, (T', A); None if nothing does."""
        ...


class Restarted:
    """A chunk begins with its first action at the tick of its arrival; a running slot is cut.

    Args:
        ticks_per_slot: Length of a slot.
        most: How many actions of a chunk may be used.
    """

    def __init__(self, ticks_per_slot: int, most: int) -> None:
        self._length, self._most = ticks_per_slot, most
        self._base, self._actions = 0, np.zeros((0, 0))

    def accept(self, now: int, observed: int, actions: Array) -> int:
        """See `Timeline`."""
        self._base, self._actions = now, actions[: self._most]
        return now

    def command(self, now: int) -> Array | None:
        """See `Timeline`."""
        index, within = divmod(now - self._base, self._length)
        return self._actions[index] if within == 0 and index < len(self._actions) else None

    def leftover(self, now: int) -> Array | None:
        """See `Timeline`."""
        rest = self._actions[-(-(now - self._base) // self._length) :]
        return rest if len(rest) else None


class Indexed:
    """Action j of a chunk belongs to the j-th slot after its observation; slots that have begun are past.

    Slots begin at multiples of their length, where observations are made too, so that those of all chunks
    coincide. Until a late chunk's first slot the one before goes on.

    Args:
        ticks_per_slot: Length of a slot.
        merge: How predictions for one slot, oldest first, become one action.
    """

    def __init__(self, ticks_per_slot: int, merge: Callable[[Sequence[Array]], Array]) -> None:
        self._length, self._merge = ticks_per_slot, merge
        self._chunks: list[tuple[int, Array]] = []

    def accept(self, now: int, observed: int, actions: Array) -> int:
        """See `Timeline`."""
        self._chunks.append((observed, actions))
        return now + (observed - now) % self._length

    def command(self, now: int) -> Array | None:
        """See `Timeline`."""
        if now % self._length:
            return None
        slots = [((now - base) // self._length, actions) for base, actions in self._chunks]
        self._chunks = [
            chunk for chunk, (slot, _) in zip(self._chunks, slots, strict=True) if slot < len(chunk[1])
        ]
        said = [actions[slot] for slot, actions in slots if slot < len(actions)]
        return self._merge(said) if said else None

    def leftover(self, now: int) -> Array | None:
        """See `Timeline`."""
        if not self._chunks:
            return None
        base, actions = self._chunks[-1]
        rest = actions[-(-(now - base) // self._length) :]
        return rest if len(rest) else None


def newest(said: Sequence[Array]) -> Array:
    """The last prediction."""
    return said[-1]


def ensembled(said: Sequence[Array]) -> Array:
    """The mean of all predictions, the oldest with the largest weight."""
    return np.average(said, axis=0, weights=np.exp(-DECAY * np.arange(len(said))))


MERGES: Mapping[str, Callable[[Sequence[Array]], Array]] = {
    "replace": newest,
    "ensemble": ensembled,
    "rtc": newest,
}
