"""Records demonstrations: the scripted expert acts, and what it saw and did is kept if it succeeded.

Episodes are played in any number of processes and stand in the data set in the order of tasks and indices:
the bytes do not depend on how many played. Whatever is whole is on the disk at once and taken into the data
set as soon as those before it are done; a recording that was killed loses only the episodes being played.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vla_bench import catalog
from vla_bench.errors import ConventionError
from vla_bench.learn import held_out
from vla_bench.learn.disturbance import UNDISTURBED, Disturbances
from vla_bench.learn.intake import describe, take_in
from vla_bench.learn.playing import Player, Setup, demo_episode
from vla_bench.learn.side_by_side import Maker, make_all
from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.writer import Recording
from vla_bench.types import Episode, Task


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
    setup = Setup(folder, layout_of(tasks, encoding), disturbances)
    stamp = made_with(tasks) | {"disturbances": disturbances.described}
    wanted = [(task, demo_episode(task, index)) for task in tasks for index in episodes]
    return fill(setup, stamp, wanted, partial(Player, setup), workers, on_attempt)


def fill(
    setup: Setup,
    stamp: Mapping[str, Any],
    wanted: Sequence[tuple[Task, Episode]],
    begin: Callable[[], Maker[tuple[Task, Episode]]],
    workers: int,
    on_attempt: Callable[[Attempt], None],
) -> list[Attempt]:
    """Record episodes into a folder, those that it has not tried yet; one attempt for each.

    Args:
        setup: Folder and layout.
        stamp: What decides about the episodes besides their keys.
        wanted: The episodes and their tasks.
        begin: Makes what plays them, in each process; can be pickled.
        workers: How many processes play.
        on_attempt: Called after each.

    Raises:
        ConventionError: The folder was recorded with something else.
        DataError: The folder holds something else.
        VlaBenchError: A process was killed.
    """
    folder, attempts = setup.folder, []
    with Recording(folder, setup.layout, {**stamp, "held_out": held_out.digest()}) as recording:
        held_out.write(folder)
        old = [episode for _, episode in wanted if episode.key in recording.tried]
        new = [(task, episode) for task, episode in wanted if episode.key not in recording.tried]
        for episode in old:
            attempts.append(Attempt(episode, recording.tried[episode.key], is_new=False))
            on_attempt(attempts[-1])
        episode_of = {episode.key: episode for _, episode in new}

        def tell(key: str, outcome: str) -> None:
            attempts.append(Attempt(episode_of[key], outcome, is_new=True))
            on_attempt(attempts[-1])

        take_in(recording, list(episode_of), make_all(begin, new, workers), tell)
        kept = len(recording)
    if kept:
        describe(folder, "+".join(sorted({task.suite for task, _ in wanted})))
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
