"""A loaded checkpoint: model and head with what stands around them, from observations to numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_bench.errors import ConventionError, DataError
from vla_bench.policy.arm import robot_state
from vla_bench.policy.octo.conventions import Conventions
from vla_bench.policy.octo.frames import Frame
from vla_bench.policy.octo.heads import Head
from vla_bench.policy.octo.instructions import Instructions
from vla_bench.policy.octo.model import Inputs, Octo
from vla_bench.policy.octo.passes import Passes
from vla_bench.policy.octo.scaling import Scaling, Statistics
from vla_bench.policy.stopwatch import Stopwatch
from vla_bench.types import Array, Image, Observation, PrecisionReport

History = Sequence[Observation]


@dataclass(frozen=True, slots=True)
class Parts:
    """A loaded checkpoint.

    Attributes:
        conventions: Of the card.
        window: Time steps that are looked at.
        model, head: With weights.
        passes: How they are computed.
        frames: The model's camera → path of its pictures.
        statistics: By data set; `scaling` and `state_scaling` are those of one of them.
        scaling: Of the actions.
        state_scaling: Of the robot's state, where it is an input.
        instructions: What becomes of texts; None where the model takes none.
        goals: The model's camera → (H, W, 3) picture of the goal.
        report: What the precision came to.
    """

    conventions: Conventions
    window: int
    model: Octo
    head: Head
    passes: Passes
    frames: Mapping[str, Frame]
    statistics: Statistics
    scaling: Scaling
    state_scaling: Scaling | None
    instructions: Instructions | None
    goals: Mapping[str, Image]
    report: PrecisionReport

    def with_option(self, option: str, value: Any) -> Parts:
        """Return the same checkpoint under one other convention of seeing or of reading its answer.

        Raises:
            UnknownNameError: It is a normalisation key that the checkpoint does not have.
        """
        conventions = Conventions.model_validate({**self.conventions.model_dump(), option: value})
        frames = {name: replace(frame, mirrored=conventions.mirrored) for name, frame in self.frames.items()}
        scaling, state = scalings(self.statistics, conventions)
        return replace(self, conventions=conventions, frames=frames, scaling=scaling, state_scaling=state)

    def can_use(self, key: str) -> bool:
        """Whether the statistics of a data set have what the conventions ask for, of the same size."""
        others = self.conventions.model_copy(update={"unnorm_key": (key,)})
        try:
            scaling, state = scalings(self.statistics, others)
        except DataError:
            return False
        same = self.state_scaling is None or (state is not None and state.size == self.state_scaling.size)
        return scaling.size == self.scaling.size and same

    def real_steps(self, history: History) -> list[bool]:
        """Which observations of a history are real: the first one also stands for those before it."""
        times = [seen.time_ns for seen in history]
        return [earlier < later for earlier, later in pairwise(times)] + [True]

    def trimmed(self, history: History) -> History:
        """The part of a history that is looked at.

        Raises:
            ConventionError: It has another length than the policy asks for.
        """
        if len(history) != self.window:
            raise ConventionError(f"the policy asks for {self.window} observations, found {len(history)}")
        if self.conventions.first_window == "padded":
            return history
        return history[len(history) - sum(self.real_steps(history)) :]

    def prepare(self, histories: Sequence[History]) -> Inputs:
        """Return the model's input for B histories of one length, without their texts."""
        device, batch = self.model.device, len(histories)
        steps = torch.tensor([self.real_steps(history) for history in histories])
        pictures = {name: torch.from_numpy(_shown(frame, histories)) for name, frame in self.frames.items()}
        numbers: dict[str, Tensor] = {}
        if self.state_scaling is not None:
            raw = np.stack([[robot_state(seen) for seen in history] for history in histories])
            state = torch.from_numpy(self.state_scaling.normalise(raw)).float().to(device)
            numbers = dict.fromkeys(self.model.config.numbers, state)
        goals = {
            name: torch.from_numpy(goal).expand(batch, *goal.shape).to(device)
            for name, goal in self.goals.items()
        }
        pictures = {name: shown.to(device) for name, shown in pictures.items()}
        return Inputs(steps.to(device), pictures, numbers=numbers, goals=goals)

    def told(self, inputs: Inputs, texts: Sequence[str]) -> Inputs:
        """Add B texts to an input; a task that is only a picture of its goal has an empty one, unseen."""
        if self.instructions is None:
            return inputs
        is_told = self.conventions.task != "goal"
        encoded = self.instructions(texts if is_told else [""] * len(texts))
        return replace(inputs, text=encoded, has_text=inputs.steps.new_full((len(texts),), is_told))

    def answer(
        self, inputs: Inputs, texts: Sequence[str], drawn: NDArray[np.float32], watch: Stopwatch
    ) -> Array:
        """(B, T, A) normalised actions; `drawn` are the (B, …) random numbers of the head."""
        told = self.told(inputs, texts)
        watch.mark("inference.text")
        likely = self.conventions.choice == "most_likely"
        noise = None if likely else torch.from_numpy(drawn).to(self.model.device)
        values = self.passes(told, noise, self.scaling.size, watch)
        return values.double().cpu().numpy()


def _shown(frame: Frame, histories: Sequence[History]) -> NDArray[np.uint8]:
    """(B, W, H, W, 3) pictures; an observation that comes twice is prepared once."""
    once = {id(seen): seen for history in histories for seen in history}
    made = {key: frame(seen) for key, seen in once.items()}
    return np.stack([np.stack([made[id(seen)] for seen in history]) for history in histories])


def scalings(statistics: Statistics, conventions: Conventions) -> tuple[Scaling, Scaling | None]:
    """Return the scaling of the actions, and of the robot's state where it is an input.

    Raises:
        UnknownNameError: The statistics do not have the data set.
        DataError: They do not have the numbers.
    """
    key = statistics.key(conventions.unnorm_key)
    state = statistics.scaling(key, "proprio", "normal") if conventions.state else None
    return statistics.scaling(key, "action", conventions.normalisation), state
