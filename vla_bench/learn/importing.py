"""Demonstrations of others, or our own, written anew as a LeRobot data set: smaller, filtered, or done again.

With `replay`, a demonstration's actions are executed open loop from where it began, what is then seen is
stored, and it is kept only if the goal holds at the end; without, what was seen is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vla_bench import catalog
from vla_bench.axes.simulation import VariedSimulation
from vla_bench.errors import ConventionError, DataError, VlaBenchError
from vla_bench.learn import held_out, intake
from vla_bench.learn.decoded import digest, resized
from vla_bench.learn.demonstrations import Deeds, Demonstration, Demonstrations, open_demonstrations
from vla_bench.learn.filters import moving
from vla_bench.learn.playing import Simulations, execute, settle
from vla_bench.learn.side_by_side import make_all
from vla_bench.lerobot.conventions import DELTA_POSE
from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.spool import About
from vla_bench.lerobot.state import STATE_NAMES, robot_state
from vla_bench.lerobot.writer import KEPT, Recording
from vla_bench.types import Array, CameraView, Episode, Observation

Step = tuple[Observation, Array]


@dataclass(frozen=True, slots=True)
class Import:
    """What is written from what, and how.

    Attributes:
        source: The data set that is read.
        folder: The data set that is written.
        layout: What its episodes have.
        drop_noops: Leave out steps that do nothing (`filters.moving`).
        replay: Do it again, and keep what succeeds.
    """

    source: Path
    folder: Path
    layout: Layout
    drop_noops: bool = False
    replay: bool = False


def import_demonstrations(
    job: Import, *, workers: int = 1, on_outcome: Callable[[str, str], None] = lambda key, outcome: None
) -> dict[str, str]:
    """Write a data set from another, or go on with it; returns what became of each demonstration, by key.

    Args:
        job: What and how.
        workers: How many processes.
        on_outcome: Called with key and outcome of each.

    Raises:
        ConventionError: The layout and the source, or the folder, do not go together.
        DataError: The source is damaged, or the folder holds something else.
    """
    data = open_demonstrations(job.source)
    _check(job, data)
    keys = [demonstration.key for demonstration in data]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DataError(job.source, f"two demonstrations are called {twice}; import their files separately")
    stamp = {
        "source": digest(job.source), "drop_noops": job.drop_noops, "replay": job.replay,
        "held_out": held_out.digest(), **(_simulator() if job.replay else {}),
    }  # fmt: skip
    with Recording(job.folder, job.layout, stamp) as recording:
        held_out.write(job.folder)
        for key in keys:
            if key in recording.tried:
                on_outcome(key, recording.tried[key])
        new = [number for number, key in enumerate(keys) if key not in recording.tried]
        outcomes = make_all(partial(Importer, job), new, workers)
        found = {key: recording.tried[key] for key in keys if key in recording.tried}

        def tell(key: str, outcome: str) -> None:
            found[key] = outcome
            on_outcome(key, outcome)

        intake.take_in(recording, [keys[number] for number in new], outcomes, tell)
        kept = len(recording)
    if kept:
        intake.describe(job.folder, job.source.stem + ("_no_noops" if job.drop_noops else ""))
    return found


def layout_of(
    data: Demonstrations, *, cameras: Sequence[str] = (), image_px: int | None = None, encoding: str = "film"
) -> Layout:
    """The layout of a data set, with some of its cameras (all by default) at another size (as it is)."""
    held = data.conventions
    if absent := sorted(set(cameras) - set(held.cameras)):
        raise ConventionError(f"{data.source}: no camera {absent}; it has {sorted(held.cameras)}")
    chosen = {name: held.cameras[name] for name in cameras or held.cameras}
    sizes = chosen if image_px is None else dict.fromkeys(chosen, (image_px, image_px))
    return Layout(held.fps, sizes, encoding)


class Importer:
    """Writes one demonstration after the other; see `side_by_side.Maker`."""

    def __init__(self, job: Import) -> None:
        self._job = job
        self._all = list(open_demonstrations(job.source))
        self._simulations = Simulations()

    def make(self, item: int) -> str:
        """Write demonstration number `item`."""
        demonstration, job = self._all[item], self._job
        if intake.waiting(job.folder, demonstration.key).is_dir():  # by an import that was killed
            return KEPT
        try:
            return self._write(demonstration)
        except VlaBenchError as error:
            return f"error: {error}"

    def close(self) -> None:
        """Release memory and graphics."""
        self._simulations.close()

    def _write(self, demonstration: Demonstration) -> str:
        job = self._job
        suite, _, _ = demonstration.task_id.rpartition("/")
        about = About(demonstration.key, suite, demonstration.task_id, demonstration.instruction)
        with intake.draft(job.folder, job.layout, about) as draft:
            steps = 0
            for seen, action in self._steps(demonstration):
                images = {name: resized(seen.images[name], size) for name, size in job.layout.cameras.items()}
                draft.add(images, robot_state(seen), action)
                steps += 1
            if steps == 0:
                return "failed: no step does anything"
            if job.replay and not self._simulations.current.succeeded:
                return "failed: the goal does not hold when it is done again"
            draft.keep(demonstration.key, demonstration.task_id, demonstration.instruction)
        return KEPT

    def _steps(self, demonstration: Demonstration) -> Iterator[Step]:
        if self._job.replay:
            yield from self._done_again(demonstration)
            return
        actions = demonstration.actions
        kept = moving(actions) if self._job.drop_noops else np.ones(len(actions), bool)
        for index, seen in enumerate(demonstration.observations(tuple(self._job.layout.cameras))):
            if kept[index]:
                yield seen, actions[index]

    def _done_again(self, demonstration: Demonstration) -> Iterator[Step]:
        """Execute the actions from where the demonstration began; the caller looks whether it succeeded."""
        deeds = demonstration.deeds
        simulation = self._simulations.of(catalog.task(demonstration.task_id))
        _begin(simulation, deeds, demonstration.key)
        views = [CameraView(name, *size) for name, size in self._job.layout.cameras.items()]
        kept = moving(deeds.actions) if self._job.drop_noops else np.ones(len(deeds.actions), bool)
        for action in deeds.actions[kept]:
            yield simulation.observe(views), action
            execute(simulation, action, until_success=False)


def _begin(simulation: VariedSimulation, deeds: Deeds, key: str) -> None:
    """Put a simulation where a demonstration began, and let the scene come to rest."""
    if isinstance(deeds.start, Episode):
        simulation.reset(deeds.start)
    else:
        simulation.reset(Episode(simulation.task.id, seed=0))
        model = simulation.current.model
        if len(deeds.start) != 1 + model.nq + model.nv:
            raise ConventionError(
                f"{key} began in a state of {len(deeds.start)} numbers, {simulation.task.id} has "
                f"{1 + model.nq + model.nv}: it is a demonstration of another scene"
            )
        simulation.current.set_state(deeds.start)
    settle(simulation)


def _check(job: Import, data: Demonstrations) -> None:
    held = data.conventions
    if held.action_convention != "delta_pose" or held.action_size != len(DELTA_POSE):
        raise ConventionError(
            f"{job.source}: actions are {held.action_convention!r} of {held.action_size} numbers; "
            f"'delta_pose' of {len(DELTA_POSE)} can be imported"
        )
    if not job.replay and (missing := sorted(set(STATE_NAMES) - set(held.proprio))):
        raise ConventionError(f"{job.source}: no proprioception {missing}; --replay measures it anew")
    for name, size in job.layout.cameras.items():
        if size[0] % 2 or size[1] % 2:
            raise ConventionError(f"{name}: films have an even height and width, not {size[0]}×{size[1]}")
    if job.replay:
        for task_id in sorted({demonstration.task_id for demonstration in data}):
            hz = 1 / catalog.task(task_id).policy_period_s
            if abs(hz - held.fps) > 1e-6 * hz:
                raise ConventionError(
                    f"{job.source}: recorded at {held.fps:g} Hz, {task_id} runs at {hz:g} Hz"
                )


def _simulator() -> Mapping[str, Any]:
    from vla_bench.sim import fingerprint

    return {"fingerprint": str(fingerprint.take(views=2))}
