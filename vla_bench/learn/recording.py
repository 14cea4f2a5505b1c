"""Records demonstrations: the scripted expert acts, and what it saw and did is kept if it succeeded.

Episodes are played in any number of processes and stand in the data set in the order of tasks and indices:
the bytes do not depend on how many played. Whatever is whole is on the disk at once and taken into the data
set as soon as those before it are done; a recording that was killed loses only the episodes being played.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_bench import catalog
from vla_bench.errors import ConventionError
from vla_bench.learn import held_out
from vla_bench.learn.action_statistics import write_statistics
from vla_bench.learn.disturbance import UNDISTURBED, Disturbances
from vla_bench.learn.playing import SPOOL, Setup, demo_episode, waiting
from vla_bench.learn.samples import Samples
from vla_bench.learn.side_by_side import play_all
from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.spool import Spooled
from vla_bench.lerobot.writer import KEPT, Recording
from vla_bench.types import Episode, Task

# Taking in rewrites what the data set says of all its episodes: at most this share of the time goes there.
_TAKING_IN = 0.2


@dataclass(frozen=True, slots=True)
class Attempt:
    """An episode that was to be recorded, and what became of it.

    Attributes:
        episode: Which.
        outcome: `kept`, `failed: …` or `error: …`; an error is tried again by the next recording.
        is_new: Whether it was tried now.
    """

    episode: Episode
    outcome: str
    is_new: bool


def record(
    tasks: Sequence[Task],
    folder: Path,
    *,
    episodes: range,
    encoding: str,
    disturbances: Disturbances = UNDISTURBED,
    workers: int = 1,
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
) -> list[Attempt]:
    """Record the episodes of `tasks`, those that the folder has not tried yet; one attempt for each.

    Args:
        tasks: All of one frequency, with the same cameras.
        folder: A new one, or one that this function has recorded into.
        episodes: Indices; each stands for a seed of the `demo` namespace.
        encoding: How pictures are stored, a name in `pictures.ENCODINGS`.
        disturbances: What may happen in the episodes.
        workers: How many processes play.
        on_attempt: Called after each.

    Raises:
        ConventionError: The tasks or the folder do not go together.
        DataError: The folder holds something else.
        VlaBenchError: A process was killed.
    """
    layout, attempts = layout_of(tasks, encoding), []
    stamp: dict[str, Any] = made_with(tasks) | {
        "disturbances": disturbances.described,
        "held_out": held_out.digest(),
    }
    with Recording(folder, layout, stamp) as recording:
        held_out.write(folder)
        intake = _Intake(recording)
        wanted = [(task, demo_episode(task, index)) for task in tasks for index in episodes]
        old = [episode for _, episode in wanted if episode.key in recording.tried]
        new = [(task, episode) for task, episode in wanted if episode.key not in recording.tried]
        for episode in old:
            attempts.append(Attempt(episode, recording.tried[episode.key], is_new=False))
            on_attempt(attempts[-1])
        outcomes = play_all(Setup(folder, layout, disturbances), new, workers)
        try:
            for (_, episode), outcome in zip(new, outcomes, strict=True):
                intake.add(episode.key, outcome)
                attempts.append(Attempt(episode, outcome, is_new=True))
                on_attempt(attempts[-1])
        finally:
            outcomes.close()
            intake.close()
        kept = len(recording)
    if kept:
        statistics = Samples(folder, cameras=()).statistics
        write_statistics(folder, {"+".join(sorted({task.suite for task in tasks})): statistics})
    return attempts


def layout_of(tasks: Sequence[Task], encoding: str) -> Layout:
    """What demonstrations of `tasks` have in common.

    Raises:
        ConventionError: They differ; both sides are named.
    """
    layouts = [
        Layout(
            round(1 / task.policy_period_s, 9),
            dict.fromkeys(task.cameras, (task.observation_height_px, task.observation_width_px)),
            encoding,
        )
        for task in tasks
    ]
    if not layouts:
        raise ConventionError("no task is left to record; name a suite or a task")
    for task, layout in zip(tasks, layouts, strict=True):
        if layout != layouts[0]:
            raise ConventionError(
                f"{tasks[0].suite} is {layouts[0]} and {task.suite} is {layout}: a data set has one "
                "frequency and one set of cameras; record them into different folders"
            )
    return layouts[0]


def made_with(tasks: Sequence[Task]) -> dict[str, Any]:
    """What decides about physics and pixels of a recording on this machine."""
    from vla_bench.sim import fingerprint

    found: dict[str, Any] = {"fingerprint": str(fingerprint.take(views=2))}
    if any(catalog.suite(name).needs_libero for name in {task.suite for task in tasks}):
        from vla_bench.sim.assets import libero_status

        # pictures of stand-ins are not LIBERO's: nothing that was trained on them can be scored on it
        found["libero_standins"] = len(libero_status(catalog.libero_root()).standins)
    return found


class _Intake:
    """Takes what waits into a data set, in the order in which it is told of it."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._told: list[tuple[str, str]] = []
        self._due = time.monotonic()
        for key in recording.tried:  # taken in, but left where it waited, by a recording that was killed
            shutil.rmtree(waiting(recording.folder, key), ignore_errors=True)

    def add(self, key: str, outcome: str) -> None:
        """An episode has been played; those that were kept wait in the spool."""
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
