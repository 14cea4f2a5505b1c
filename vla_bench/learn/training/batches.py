"""Samples as a model is trained with them; every batch is a function of its number alone."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_bench import seeding
from vla_bench.errors import DataError
from vla_bench.learn.decoded import Progress
from vla_bench.learn.samples import Samples
from vla_bench.learn.training.foresight import waypoints
from vla_bench.learn.training.kind import Excerpt, Learner
from vla_bench.learn.training.pictures import prepared_pictures
from vla_bench.learn.training.waiting import waits
from vla_bench.types import Image


class Batches:
    """The batches of a training.

    Args:
        samples: The data, with the policy's cameras.
        learner: What learns from them.
        folder: Where prepared pictures are kept.
        progress: Called with (frames done, frames in all) while they are prepared.

    Attributes:
        training, held_out: Numbers of the samples that are trained on, and of those that never are.

    Raises:
        DataError: No sample is left to train on.
    """

    def __init__(
        self,
        samples: Samples,
        learner: Learner,
        folder: Path,
        progress: Progress = lambda done, total: None,
    ) -> None:
        self._samples, self._learner, self._config = samples, learner, learner.config
        self._sight = learner.sight
        self._pictures = prepared_pictures(samples, self._sight, folder, progress)
        self._first = np.arange(len(samples)) - samples.step  # of each frame's episode
        self._last = self._first + np.bincount(samples.episode)[samples.episode] - 1
        every = self._config.holdout
        held = samples.episode % every == every - 1 if every else np.zeros(len(samples), bool)
        waiting = waits(samples, self._config.waiting)
        self.training, self.held_out = np.flatnonzero(~held & ~waiting), np.flatnonzero(held)
        self._waypoints = waypoints(samples) if self._config.foresight else None
        if not len(self.training):
            raise DataError(str(samples), f"holdout = {every} leaves none of {len(samples)} samples")

    def batch(self, number: int) -> Any:
        """Return batch `number` of the training."""
        size, count = self._config.batch, len(self.training)
        chosen = []
        for position in range(number * size, (number + 1) * size):
            epoch, place = divmod(position, count)
            chosen.append((epoch, int(self._order(epoch)[place])))
        changed = self._config.augment != "none"
        excerpts = [self._excerpt(i, epoch if changed else None) for epoch, i in chosen]
        draws = seeding.generator("policy", "training", "noise", self._config.seed, number)
        return self._learner.batch(excerpts, draws)

    def measured(self, indices: Sequence[int]) -> Any:
        """Return samples as inference sees them."""
        draws = seeding.generator("policy", "training", "measured noise", *map(int, indices))
        return self._learner.batch([self._excerpt(int(index), None) for index in indices], draws)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The samples in the order of an epoch."""
        if getattr(self, "_shuffled", (None,))[0] != epoch:
            draws = seeding.generator("policy", "training", "order", self._config.seed, epoch)
            self._shuffled = (epoch, self.training[draws.permutation(len(self.training))])
        return self._shuffled[1]

    def _excerpt(self, index: int, epoch: int | None) -> Excerpt:
        """A frame with what belongs to it; its pictures are changed as in an epoch, or not at all."""
        samples, reach = self._samples, self._learner.reach
        first, last = self._first[index], self._last[index]
        oldest = index - reach.frames + 1
        seen, ahead = np.arange(oldest, index + 1), np.arange(oldest, oldest + reach.actions)
        frames = seen.clip(first, None)
        return Excerpt(
            pictures=[self._seen(int(frame), index, epoch) for frame in frames],
            real=seen >= first,
            proprio={name: values[frames] for name, values in samples.proprio.items()},
            instruction=samples.instructions[int(samples.episode[index])],
            actions=samples.actions[ahead.clip(first, last)],
            mask=(ahead >= first) & (ahead <= last),
            waypoints=None if self._waypoints is None else self._waypoints[index],
        )

    def _seen(self, frame: int, index: int, epoch: int | None) -> list[Image]:
        """The pictures of a frame; all frames of a sample are changed alike."""
        stored = list(enumerate(self._pictures[frame]))
        if epoch is None:
            return [self._sight.plain(picture, camera) for camera, picture in stored]
        draws = seeding.generator("policy", "training", "augment", self._config.seed, epoch, index)
        return [self._sight.changed(picture, camera, draws) for camera, picture in stored]


class Supply:
    """Batches in order, made by a thread while the model computes.

    Args:
        batches: Where they come from.
        ahead: How many are made before they are asked for.
        every: Only every so many-th is made: the others belong to other processes.

    Attributes:
        waited_s: How long somebody has waited for one.
        made_s: How long making them took.
    """

    def __init__(self, batches: Batches, ahead: int = 3, every: int = 1) -> None:
        self._batches, self._queue = batches, queue.Queue[tuple[Any, Exception | None]](ahead)
        self._every = every
        self._stopped = threading.Event()
        self.waited_s = self.made_s = 0.0

    @contextmanager
    def starting(self, number: int) -> Iterator[Supply]:
        """Make batches from `number` on, as long as the block lasts."""
        thread = threading.Thread(target=self._make, args=(number,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            thread.join()

    def next(self) -> Any:
        """Return the next batch.

        Raises:
            VlaBenchError: It cannot be made.
        """
        began = time.perf_counter()
        found, error = self._queue.get()
        self.waited_s += time.perf_counter() - began
        if error is not None:
            raise error
        return found

    def _make(self, number: int) -> None:
        while not self._stopped.is_set():
            began = time.perf_counter()
            try:
                made: tuple[Any, Exception | None] = self._batches.batch(number), None
            except Exception as error:
                made = None, error
            self.made_s += time.perf_counter() - began
            number += self._every
            while not self._stopped.is_set():
                try:
                    self._queue.put(made, timeout=0.1)
                    break
                except queue.Full:
                    continue
