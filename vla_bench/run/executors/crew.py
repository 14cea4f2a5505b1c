"""Workers that play units side by side, and what is done when one of them dies."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vla_bench.errors import VlaBenchError
from vla_bench.run.executors.units import RETRIES, Schedule, Unit, by_task, in_order
from vla_bench.run.outcomes import not_played
from vla_bench.run.plan import WorkItem
from vla_bench.run.provenance import now
from vla_bench.run.records import Record, RecordWriter, Tail
from vla_bench.run.records.files import file_of
from vla_bench.run.stage import Job

MAIN = "main"
log = logging.getLogger("vla_bench.run")


class WorkerDiedError(VlaBenchError):
    """A process that played an episode is gone."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A worker has played its unit."""


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is gone, and how."""

    how: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker cannot go on, and neither could another in its place: the disk is full, say."""

    why: str


Event = Record | Finished | Died | Failed


class Hand(Protocol):
    """A worker as the main process sees it."""

    name: str

    def give(self, unit: Unit) -> None:
        """Let it play a unit."""
        ...

    def dismiss(self) -> None:
        """Let it finish the item that it plays, and then stop."""
        ...

    def kill(self) -> None:
        """Stop it at once."""
        ...


class Transport(Protocol):
    """How workers are started and heard."""

    def hire(self, name: str) -> Hand:
        """Start a worker."""
        ...

    def events(self, hands: Sequence[Hand]) -> list[tuple[Hand, Event]]:
        """Wait for something to happen; may return nothing after a while."""
        ...


@dataclass(slots=True)
class _Place:
    """A worker's place: who fills it now, what is played there, and what was before."""

    hand: Hand
    tail: Tail  # what it writes
    unit: Unit | None = None
    before: Unit | None = None
    done: list[str] = field(default_factory=list)  # keys of the unit's items that are recorded


class Crew:
    """Plays units with several workers.

    An item whose worker died is played again, at most `RETRIES` times; then its record is an error that says
    how the workers died.

    Args:
        job: What everybody knows.
        names: Of the workers; each writes a file of its own.
        transport: How they are started and heard.
        needed: Whether an item is still worth playing.
    """

    def __init__(
        self, job: Job, names: Sequence[str], transport: Transport, needed: Callable[[WorkItem], bool]
    ) -> None:
        self._job, self._names, self._transport, self._needed = job, names, transport, needed

    def play(self, units: Sequence[Unit]) -> Generator[Record]:
        """Play all units and yield the records as they are written; closing drains what is being played.

        Raises:
            VlaBenchError: A worker cannot go on.
        """
        stops = self._job.study.statistics.stop != "never"
        schedule = Schedule(units, in_order if stops else by_task)
        names = self._names[: max(1, len(units))]
        places: list[_Place] = []
        try:
            for name in names if units else ():
                places.append(_Place(*self._hire(name)))
            while self._hand_out(schedule, places):
                for hand, event in self._transport.events([place.hand for place in places]):
                    place = next(place for place in places if place.hand is hand)
                    yield from self._hear(schedule, place, event)
        except (GeneratorExit, KeyboardInterrupt, VlaBenchError):
            self._drain(places)  # also when one of them cannot go on: killed, others would leave torn lines
            raise
        finally:
            for place in places:
                place.hand.kill()

    def _hand_out(self, schedule: Schedule, places: list[_Place]) -> bool:
        """Give the idle something to do; returns whether anything is being played."""
        for place in places:
            while place.unit is None and (unit := schedule.take(place.before)) is not None:
                items = tuple(item for item in unit.items if self._needed(item))
                if not items:
                    schedule.over(unit)
                    continue
                place.unit, place.before, place.done = Unit(items), unit, []
                place.hand.give(place.unit)
        return any(place.unit is not None for place in places)

    def _hear(self, schedule: Schedule, place: _Place, event: Event) -> Generator[Record]:
        if isinstance(event, Record):
            place.done.append(event.key)
            yield event
        elif isinstance(event, Failed):
            self._vacate(schedule, place)
            raise VlaBenchError(event.why)
        elif isinstance(event, Finished):
            self._vacate(schedule, place)
        else:
            yield from self._bury(schedule, place, event)

    def _bury(self, schedule: Schedule, place: _Place, event: Died) -> Generator[Record]:
        """Take stock of what a dead worker left, and put another in its place."""
        unit = place.unit
        log.warning("worker %s ended %s; another takes its place", place.hand.name, event.how)
        if unit is not None:
            # it may have written records and died before it could say so
            unheard = {item.key for item in unit.after(place.done)}
            for record in place.tail.new():
                if record.key in unheard:
                    place.done.append(record.key)
                    yield record
            left = unit.after(place.done)
            if left and not schedule.died(left[0]):
                error = WorkerDiedError(
                    f"{1 + RETRIES} workers died while they played it, the last one {event.how}"
                )
                yield give_up(self._job, left[0], error)
                left = left[1:]
            self._vacate(schedule, place)
            schedule.put_back(left)
        place.hand.kill()
        (place.hand, place.tail), place.before = self._hire(place.hand.name), None

    def _hire(self, name: str) -> tuple[Hand, Tail]:
        tail = Tail(file_of(self._job.folder, name))  # before anything is added to it
        return self._transport.hire(name), tail

    def _vacate(self, schedule: Schedule, place: _Place) -> None:
        if place.unit is not None:
            schedule.over(place.unit)
            place.unit = None

    def _drain(self, places: list[_Place]) -> None:
        """Let everybody finish what they play; being interrupted again ends that."""
        busy = [place.hand for place in places if place.unit is not None]
        for hand in busy:
            hand.dismiss()
        with contextlib.suppress(KeyboardInterrupt):
            while busy:
                for hand, event in self._transport.events(busy):
                    if not isinstance(event, Record):
                        busy.remove(hand)


def give_up(job: Job, item: WorkItem, error: VlaBenchError) -> Record:
    """Record that an item cannot be played, and return the record."""
    record = Record.of(
        **not_played(error), arm=item.arm, episode=item.episode, task=item.task(),
        study_hash=job.study.hash, key=item.key, worker=MAIN, started_at=now(), fingerprint=job.fingerprint,
    )  # fmt: skip
    with RecordWriter(job.folder, MAIN) as writer:
        writer.append(record)
    return record
