"""Octo as a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_bench import seeding
from vla_bench.errors import ConventionError, MissingDataError
from vla_bench.policy import hub
from vla_bench.policy.arm import STATE_NAMES
from vla_bench.policy.base import Choice, Explanation, PolicySpec
from vla_bench.policy.cards import Card
from vla_bench.policy.devices import pick_device
from vla_bench.policy.octo import profiling
from vla_bench.policy.octo.checkpoint import Checkpoint
from vla_bench.policy.octo.conventions import Conventions, read_conventions, to_commands
from vla_bench.policy.octo.loading import load
from vla_bench.policy.octo.parts import History, Parts
from vla_bench.policy.octo.passes import Passes
from vla_bench.policy.octo.random_weights import RandomCheckpoint, random_checkpoint
from vla_bench.policy.precision import backend
from vla_bench.policy.profile import Profile
from vla_bench.policy.stopwatch import Stopwatch
from vla_bench.types import ActionChunk, Array, Observation

ARM_ACTION = 7
# of a checkpoint in its official form, or of what was made of it
FILES = ("*.json", "*.safetensors", "*.msgpack", "*/default/*")
UNITS = {
    "controller": "those of the controller: 1 is 0.05 m or 0.5 rad; gripper 0..1",
    "metres": "m and rad (Euler angles); gripper 0..1",
}


class OctoPolicy:
    """Acts from the last few observations, and from noise that belongs to the episode and its time.

    Nothing is kept between calls but what texts become, so that one model can serve many episodes.

    Args:
        parts: The loaded checkpoint.
    """

    def __init__(self, parts: Parts) -> None:
        conventions = parts.conventions
        self.parts, self.precision_report = parts, parts.report
        self._watch, self._seed = Stopwatch(parts.model.device), 0
        self.spec = PolicySpec(
            cameras=tuple(dict.fromkeys(view.camera for view in conventions.cameras.values())),
            image_px=conventions.image_px,
            proprio=STATE_NAMES if conventions.state else (),
            history=parts.window,
            history_stride_s=1.0 / conventions.control_hz if parts.window > 1 else 0.0,
            action_size=parts.scaling.size,
            chunk_length=parts.head.horizon,
            control_hz=conventions.control_hz,
        )

    def reset(self, instruction: str, seed: int) -> None:
        """Begin an episode: its noise follows from `seed`; the instruction comes with every observation."""
        self._seed = seed

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return the (T, 7) actions for a history."""
        return self.act_seeded([observations], [self._seed])[0]

    def act_seeded(self, batch: Sequence[Sequence[Observation]], seeds: Sequence[int]) -> list[ActionChunk]:
        """Return one chunk for each history; the timings are those of the whole batch."""
        return [told.chunk for told in self._answer(batch, seeds)]

    def explain(self, observations: Sequence[Observation]) -> Explanation:
        """Act, and tell the actions before they became commands."""
        return self._answer([observations], [self._seed])[0]

    def choices(self) -> tuple[Choice, ...]:
        """Return the conventions that can be exchanged without loading anything."""
        said, statistics = self.parts.conventions, self.parts.statistics
        used = statistics.key(said.unnorm_key)
        keys = tuple(key for key in statistics.tables if key != used and self.parts.can_use(key))
        return (
            Choice("mirrored", "picture", said.mirrored, (not said.mirrored,), True),
            Choice("unnorm_key", "normalisation", used, keys, said.state),
            _either("units", "action scale", said.units, ("controller", "metres")),
            _either("gripper", "gripper", said.gripper, ("one_opens", "one_closes")),
        )

    def with_option(self, option: str, value: Any) -> OctoPolicy:
        """Return a policy with the same weights and one other convention.

        Raises:
            UnknownNameError: It is a normalisation key that the checkpoint does not have.
        """
        return OctoPolicy(self.parts.with_option(option, value))

    def commands(self, normalised: Array) -> Array:
        """(T, A) as the model gave them → (T, 7) commands."""
        return to_commands(self.parts.scaling.unnormalise(normalised), self.parts.conventions)

    def profile(self) -> Profile:
        """Return what a call has to compute, and on CUDA the same policy without recorded passes."""
        plain = None
        if self.parts.passes.graphs is not None and self.parts.model.device.type == "cuda":
            passes = Passes(self.parts.model, self.parts.head, None)
            plain = OctoPolicy(replace(self.parts, passes=passes))
        return profiling.describe(self.parts, plain)

    @torch.inference_mode()
    def _answer(self, batch: Sequence[History], seeds: Sequence[int]) -> list[Explanation]:
        """Answer histories; those of one length together."""
        self._watch.restart()
        trimmed = [self.parts.trimmed(history) for history in batch]
        values: dict[int, Array] = {}
        for length in dict.fromkeys(map(len, trimmed)):
            rows = [row for row, history in enumerate(trimmed) if len(history) == length]
            found = self._values([trimmed[row] for row in rows], [seeds[row] for row in rows])
            values |= dict(zip(rows, found, strict=True))
        commands = [self.commands(values[row]) for row in range(len(batch))]
        self._watch.mark("postprocess")
        return [
            self._told(values[row], ActionChunk(c, self._watch.timings_ms)) for row, c in enumerate(commands)
        ]

    def _values(self, histories: Sequence[History], seeds: Sequence[int]) -> Array:
        """(B, T, A) normalised actions for histories of one length."""
        inputs = self.parts.prepare(histories)
        drawn = self._noise(histories, seeds)
        self._watch.mark("preprocess")
        texts = [history[-1].instruction for history in histories]
        return self.parts.answer(inputs, texts, drawn, self._watch)

    def _noise(self, histories: Sequence[History], seeds: Sequence[int]) -> NDArray[np.float32]:
        """(B, …) the head's random numbers.

        By the time, not by the number of calls: no other episode and no repeated question changes them.
        """
        streams = [
            seeding.generator("policy", "octo", seed, history[-1].time_ns)
            for seed, history in zip(seeds, histories, strict=True)
        ]
        return np.stack([self.parts.head.draw(stream) for stream in streams])

    def _told(self, values: Array, chunk: ActionChunk) -> Explanation:
        physical = self.parts.scaling.unnormalise(values)
        return Explanation(
            chunk, normalised=values, physical=physical, units=UNITS[self.parts.conventions.units]
        )


def _either(option: str, topic: str, declared: str, known: tuple[str, ...]) -> Choice:
    """A choice of how the answer is read."""
    return Choice(option, topic, declared, tuple(value for value in known if value != declared), False)


def build(card: Card, precision: str) -> OctoPolicy:
    """Build the policy of a card.

    Raises:
        ConventionError: The card contradicts itself or the checkpoint.
        MissingDataError: A file is not there.
        DataError: A file cannot be used.
        MissingCapabilityError: The kind of model is not implemented, or this machine lacks something.
    """
    conventions, numbers = read_conventions(card), backend(precision)
    device = pick_device(conventions.device)
    numbers.require(device)
    parts = load(card, conventions, find(card, conventions, device), numbers, device)
    if parts.scaling.size != ARM_ACTION:
        raise ConventionError(
            f"{card.name}: the checkpoint's actions have {parts.scaling.size} numbers, "
            f"those of one arm {ARM_ACTION}"
        )
    return OctoPolicy(parts)


def find(card: Card, conventions: Conventions, device: torch.device) -> Checkpoint:
    """Return the checkpoint that the user or the card names, or one that is made up.

    Raises:
        MissingDataError: It is not on this machine.
    """
    if conventions.weights == "checkpoint":
        return Checkpoint(_folder(card, conventions))
    try:
        folder = _folder(card, conventions)
    except MissingDataError as error:
        if conventions.checkpoint is not None:
            raise
        if conventions.architecture is None:
            raise MissingDataError(
                f"{card.source}: random weights need a checkpoint that says their sizes, or the option "
                f"'architecture': {error}"
            ) from error
        return random_checkpoint(conventions.architecture, conventions.unnorm_key, device)
    return RandomCheckpoint(folder, device, like=Checkpoint(folder))


def _folder(card: Card, conventions: Conventions) -> Path:
    if conventions.checkpoint:
        return hub.named_folder(conventions.checkpoint, FILES)
    return hub.card_folder(card, FILES)
