"""The loop: forward, backward, step; checkpoints, the curve, and an end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vla_bench.errors import MissingCapabilityError, VlaBenchError
from vla_bench.learn.training import state
from vla_bench.learn.training.batches import Batches, Supply
from vla_bench.learn.training.config import Limits, Rhythm
from vla_bench.learn.training.curve import Curve, draw_curve
from vla_bench.learn.training.kind import Learner
from vla_bench.learn.training.optimiser import Optimisers
from vla_bench.learn.training.parallel import ALONE, Group
from vla_bench.learn.training.state import Progress
from vla_bench.learn.training.tally import Tally, accuracy, held_out, merged, settled


@dataclass(frozen=True, slots=True)
class Ended:
    """How a training ended.

    Attributes:
        progress: How far it is.
        reason: `max_steps`, `max_minutes`, `until_accuracy` or `interrupted`.
        checkpoint: Its newest.
        last: The last line of the curve.
    """

    progress: Progress
    reason: str
    checkpoint: Path
    last: dict[str, Any]


@dataclass
class Watchers:
    """Who is told.

    Attributes:
        on_step: After every step, with the step, loss and accuracy (NaN without tokens).
        on_checkpoint: Every `Rhythm.evaluate` steps and at the end, with the folder of a checkpoint and its
            step; again when the training is continued from there.
        is_stopping: Asked after every step whether somebody wants it to stop.
    """

    on_step: Callable[[int, float, float], None] = lambda step, loss, accuracy: None
    on_checkpoint: Callable[[Path, int], None] = lambda folder, step: None
    is_stopping: Callable[[], bool] = lambda: False


def train(
    learner: Learner,
    batches: Batches,
    folder: Path,
    limits: Limits,
    rhythm: Rhythm | None = None,
    watchers: Watchers | None = None,
    group: Group = ALONE,
) -> Ended:
    """Train until a limit, from the newest checkpoint in `folder` on.

    Stopped and continued, or killed and continued, the weights are those of a training that ran through.

    Args:
        learner: With the weights of that checkpoint.
        batches: What it learns from.
        folder: Of the training.
        limits: When it ends.
        rhythm: What is done how often.
        watchers: Who is told; of several processes, only the first one tells of checkpoints.
        group: The processes that train together.

    Raises:
        ConventionError: The passes of a step cannot be shared out.
        MissingCapabilityError: The memory does not suffice; says what to lower.
        VlaBenchError: The loss is not a number any more.
    """
    with _telling_what_to_lower(learner):
        run = _Run(learner, batches, folder, limits, rhythm or Rhythm(), watchers or Watchers(), group)
        return run.until_its_end()


class _Run:
    """One session of a training."""

    def __init__(
        self,
        learner: Learner,
        batches: Batches,
        folder: Path,
        limits: Limits,
        rhythm: Rhythm,
        watchers: Watchers,
        group: Group,
    ) -> None:
        self._group, self._passes = group, group.passes(learner.config.accumulate)
        self._learner, self._batches, self._folder = learner, batches, folder
        self._limits, self._rhythm, self._watchers = limits, rhythm, watchers
        self._optimisers, self._progress = Optimisers(learner), Progress()
        if place := state.newest(folder):
            self._progress = state.read_progress(place, learner.config.hash)
            state.restore(place, learner, self._optimisers)
        self._trained = list(learner.trained().values())
        self._supply = Supply(batches, every=group.size)
        if group.writes:
            self._curve = Curve(folder, self._progress.step)
            self._tally = Tally(learner, self._progress, self._supply)
        self._decide()

    def until_its_end(self) -> Ended:
        """Train until a limit."""
        last: dict[str, Any] = {}
        place = state.newest(self._folder)
        # perhaps that is where the last session ended
        if place is not None and self._group.writes and self._is_evaluated():
            self._watchers.on_checkpoint(place, self._progress.step)
        first = self._progress.step * self._learner.config.accumulate + self._group.rank
        with self._supply.starting(first):
            while self._reason is None:
                began = time.perf_counter()
                self._step()
                self._progress.seconds += time.perf_counter() - began
                self._decide()
                if self._group.writes:
                    last = self._after() or last
        with self._group.first_goes_first():
            place = self._save()
        if self._group.writes:
            draw_curve(self._folder)
        return Ended(self._progress, self._reason, place, last)

    def _decide(self) -> None:
        """Look whether it is over: the first process's clock and Ctrl-C are those of all."""
        self._reason = self._group.decided(self._over())

    def _over(self) -> str | None:
        progress, limits = self._progress, self._limits
        recent = progress.accuracies[-limits.window :]
        wanted = limits.until_accuracy
        if wanted is not None and len(recent) == limits.window and float(np.mean(recent)) >= wanted:
            return "until_accuracy"
        if limits.max_steps is not None and progress.step >= limits.max_steps:
            return "max_steps"
        if limits.max_minutes is not None and progress.seconds >= 60 * limits.max_minutes:
            return "max_minutes"
        return "interrupted" if self._watchers.is_stopping() else None

    def _step(self) -> None:
        """One step of the optimiser."""
        config, outcomes = self._learner.config, []
        for _ in range(self._passes):
            outcome = self._learner.measure(self._supply.next())
            (outcome.objective / config.accumulate).backward()
            outcomes.append(settled(outcome))
        self._group.add_up(self._trained)
        norm = float(nn.utils.clip_grad_norm_(self._trained, config.clip_norm))
        step, found = self._progress.step + 1, merged(self._group.all_of(outcomes))
        if not math.isfinite(norm):
            raise VlaBenchError(
                f"step {step}: the gradients are not finite (loss {float(found.loss):g}); a lower learning "
                f"rate than {config.learning_rate:g} or a longer warm-up than {config.warmup_steps} steps "
                "may help; the last checkpoint is from before"
            )
        self._optimisers.step(step)
        self._learner.stepped(step)
        self._progress.step = step
        if self._group.writes:
            self._tally.add(found, norm)
        right = accuracy([found])
        self._progress.accuracies = [*self._progress.accuracies, right][-self._limits.window :]
        self._watchers.on_step(step, float(found.loss), right)

    def _after(self) -> dict[str, Any] | None:
        """What is due after a step; returns the line of the curve, if there is one."""
        step, rhythm, row = self._progress.step, self._rhythm, None
        ends, is_evaluated = self._reason is not None, self._is_evaluated()
        if ends or is_evaluated or step % rhythm.log == 0:
            row = self._tally.row()
            if ends or is_evaluated or step % rhythm.save == 0:
                row |= held_out(self._learner, self._batches)
            self._curve.add(row)
        if is_evaluated or step % rhythm.save == 0:
            place = self._save()
            draw_curve(self._folder)
            if is_evaluated:
                self._watchers.on_checkpoint(place, step)
        return row

    def _is_evaluated(self) -> bool:
        """Whether the state of now is played: every so often, and at an end that nobody asked for by hand."""
        every = self._rhythm.evaluate
        ends = self._reason not in (None, "interrupted")
        return every > 0 and (ends or self._progress.step % every == 0)

    def _save(self) -> Path:
        return state.save(self._folder, self._learner, self._optimisers, self._progress, self._rhythm.keep)


@contextmanager
def _telling_what_to_lower(learner: Learner) -> Iterator[None]:
    """Say what to lower when the memory does not suffice; on the CPU torch has no error of its own for it."""
    config = learner.config
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        if type(error) is RuntimeError and "can't allocate memory" not in str(error):
            raise
        smaller = f"--batch {max(config.batch // 2, 1)} --accumulate {2 * config.accumulate}"
        ways = [smaller, *learner.lighter()]
        raise MissingCapabilityError(
            f"the memory does not suffice for batch = {config.batch} with strategy {config.strategy!r}; "
            f"try {', or '.join(ways)}; the training continues from its last checkpoint ({first})"
        ) from error
