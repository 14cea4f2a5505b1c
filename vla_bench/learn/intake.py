"""Takes episodes that wait in a data set's spool into it, in order, while others are still being made."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

from vla_bench.learn.action_statistics import statistics_of, write_statistics
from vla_bench.learn.decoded import Decoded
from vla_bench.learn.demonstrations import open_demonstrations
from vla_bench.lerobot.draft import Draft
from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.spool import About, Spooled, begin
from vla_bench.lerobot.writer import KEPT, Recording

SPOOL = ".spool"
# Taking in rewrites what the data set says of all its episodes: at most this share of the time goes there.
_TAKING_IN = 0.2


def waiting(folder: Path, key: str) -> Path:
    """Where an episode of a data set waits until it is taken in."""
    return folder / SPOOL / hashlib.sha256(key.encode()).hexdigest()[:24]


def draft(folder: Path, layout: Layout, about: About) -> Draft:
    """Begin an episode that waits for the data set in `folder` once it is kept."""
    return begin(waiting(folder, about.key), layout, about)


def take_in(
    recording: Recording,
    keys: Sequence[str],
    outcomes: Generator[str],
    on_outcome: Callable[[str, str], None],
) -> None:
    """Take in what is kept, in the order of `keys`, while `outcomes` come; also when it is interrupted.

    Args:
        recording: The data set.
        keys: Of the episodes that are being made.
        outcomes: `kept`, `failed: …`, which is remembered, or `error: …`, which is not; closed at the end.
        on_outcome: Called with key and outcome of each.
    """
    intake = _Intake(recording)
    with closing(outcomes):
        try:
            for key, outcome in zip(keys, outcomes, strict=True):
                intake.add(key, outcome)
                on_outcome(key, outcome)
        finally:
            intake.close()


def describe(folder: Path, name: str) -> None:
    """Write the statistics of a data set that a policy is normalised with, under a name."""
    data = open_demonstrations(folder)
    numbers = Decoded(data).numbers()
    statistics = statistics_of(numbers.actions, numbers.proprio, len(data), data.conventions)
    write_statistics(folder, {name: statistics})


class _Intake:
    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._told: list[tuple[str, str]] = []
        self._due = time.monotonic()
        for key in recording.tried:  # taken in, but left where it waited, by a recording that was killed
            shutil.rmtree(waiting(recording.folder, key), ignore_errors=True)

    def add(self, key: str, outcome: str) -> None:
        self._told.append((key, outcome))
        if time.monotonic() >= self._due:
            began = time.monotonic()
            self._take_in()
            self._due = time.monotonic() + (time.monotonic() - began) * (1 / _TAKING_IN - 1)

    def close(self) -> None:
        """Take in what is left, and remove the spool where nothing waits in it."""
        self._take_in()
        place = self._recording.folder / SPOOL
        for left in place.glob(".*"):
            shutil.rmtree(left, ignore_errors=True)
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()

    def _take_in(self) -> None:
        told, self._told = self._told, []
        rooms = [waiting(self._recording.folder, key) for key, outcome in told if outcome == KEPT]
        whole = [Spooled(room) for room in rooms]
        failed = {key: outcome for key, outcome in told if outcome.startswith("failed")}
        if not whole and not failed:
            return
        self._recording.note_all(failed)
        self._recording.add_all((e.about.key, e.about.task_id, e.about.instruction, e) for e in whole)
        for room in rooms:
            shutil.rmtree(room)
