"""Samples as a model is trained with them; every batch is a function of its number alone."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_bench import seeding
from vla_bench.errors import DataError
from vla_bench.learn.decoded import Progress
from vla_bench.learn.samples import Samples
from vla_bench.learn.training.augmentation import augmented
from vla_bench.learn.training.learner import Learner
from vla_bench.learn.training.pictures import prepared_pictures
from vla_bench.policy import images
from vla_bench.policy.arm import robot_state
from vla_bench.policy.openvla.conventions import from_commands
from vla_bench.policy.openvla.prompts import prompt
from vla_bench.types import Array, Image, Observation


@dataclass(frozen=True, slots=True)
class Batch:
    """B samples.

    Attributes:
        prompts: B lists of token ids.
        pixels: (B, channels, H, W) float32.
        values: (B, T, A) actions in [−1, 1].
        mask: (B, T) which of them belong to the episode.
        state: (B, size) normalised state of the robot, or None.
    """

    prompts: Sequence[Sequence[int]]
    pixels: Tensor
    values: Array
    mask: NDArray[np.bool_]
    state: Tensor | None


class Batches:
    """The batches of a training.

    Args:
        samples: The data, with the policy's cameras and chunk.
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
        # pictures come from the prepared array; what is read sample by sample has none
        self._samples = Samples(samples.folder, chunk=samples.chunk, cameras=())
        self._config, self._parts = learner.config, learner.parts
        self._processor, self._area = self._parts.frames.processor, self._parts.conventions.crop_area
        self._pictures = prepared_pictures(samples, self._parts.frames, folder, progress)
        template = self._parts.conventions.prompt
        self._prompts = [learner.tokenize(prompt(text, template)) for text in samples.instructions]
        every = self._config.holdout
        held = samples.episode % every == every - 1 if every else np.zeros(len(samples), bool)
        self.training, self.held_out = np.flatnonzero(~held), np.flatnonzero(held)
        if not len(self.training):
            raise DataError(samples.folder, f"holdout = {every} leaves none of {len(samples)} samples")

    def batch(self, number: int) -> Batch:
        """Return batch `number` of the training."""
        size, count = self._config.batch, len(self.training)
        chosen = []
        for position in range(number * size, (number + 1) * size):
            epoch, place = divmod(position, count)
            chosen.append((epoch, int(self._order(epoch)[place])))
        changed = self._config.augment == "openvla"
        pictures = [self._changed(i, epoch) if changed else self._plain(i) for epoch, i in chosen]
        return self._batch([index for _, index in chosen], pictures)

    def measured(self, indices: Sequence[int]) -> Batch:
        """Return samples as inference sees them."""
        return self._batch(indices, [self._plain(index) for index in indices])

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The samples in the order of an epoch."""
        if getattr(self, "_shuffled", (None,))[0] != epoch:
            draws = seeding.generator("policy", "training", "order", self._config.seed, epoch)
            self._shuffled = (epoch, self.training[draws.permutation(len(self.training))])
        return self._shuffled[1]

    def _changed(self, index: int, epoch: int) -> list[Image]:
        draws = seeding.generator("policy", "training", "augment", self._config.seed, epoch, index)
        return [augmented(picture, self._area, draws) for picture in self._pictures[index]]

    def _plain(self, index: int) -> list[Image]:
        stored = self._pictures[index]
        if self._area == 1:
            return list(stored)
        return [images.crop_centre(picture, self._area, len(picture)) for picture in stored]

    def _batch(self, indices: Sequence[int], pictures: Sequence[Sequence[Image]]) -> Batch:
        parts = self._parts
        tables = [tower.table for tower in self._processor.towers]
        pixels = np.stack(
            [
                np.concatenate([images.look_up(table, each) for each in views for table in tables])
                for views in pictures
            ]
        )
        found = [self._samples[index] for index in indices]
        physical = [from_commands(each.actions, parts.conventions) for each in found]
        values = np.stack([parts.scaling.normalise(actions) for actions in physical])
        state = None
        if parts.state_scaling is not None:
            seen = [robot_state(Observation({}, each.proprio, "", 0)) for each in found]
            state = torch.from_numpy(parts.state_scaling.normalise(np.stack(seen))).float()
        prompts = [self._prompts[each.episode] for each in found]
        return Batch(prompts, torch.from_numpy(pixels), values, np.stack([e.mask for e in found]), state)


class Supply:
    """Batches in order, made by a thread while the model computes.

    Attributes:
        waited_s: How long somebody has waited for one.
        made_s: How long making them took.
    """

    def __init__(self, batches: Batches, ahead: int = 3) -> None:
        self._batches, self._queue = batches, queue.Queue[Batch | BaseException](ahead)
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

    def next(self) -> Batch:
        """Return the next batch.

        Raises:
            VlaBenchError: It cannot be made.
        """
        began = time.perf_counter()
        found = self._queue.get()
        self.waited_s += time.perf_counter() - began
        if isinstance(found, BaseException):
            raise found
        return found

    def _make(self, number: int) -> None:
        while not self._stopped.is_set():
            began = time.perf_counter()
            try:
                made: Batch | BaseException = self._batches.batch(number)
            except Exception as error:
                made = error
            self.made_s += time.perf_counter() - began
            number += 1
            while not self._stopped.is_set():
                try:
                    self._queue.put(made, timeout=0.1)
                    break
                except queue.Full:
                    continue
