"""A loaded checkpoint: the model with what stands around it, and how its actions are decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vla_bench.errors import DataError
from vla_bench.policy.arm import robot_state
from vla_bench.policy.openvla.actions import (
    OFT_EPSILON,
    ActionTokens,
    Scaling,
    Statistics,
    read_statistics,
)
from vla_bench.policy.openvla.checkpoint import Source, config_of, load_model, load_part, require_parts
from vla_bench.policy.openvla.conventions import Conventions
from vla_bench.policy.openvla.decoding import Decoded, greedy
from vla_bench.policy.openvla.engine import Engine
from vla_bench.policy.openvla.engines import ENGINES
from vla_bench.policy.openvla.frames import Frames
from vla_bench.policy.openvla.heads import Ddim, DiffusionHead, L1Head, ScalarProjector
from vla_bench.policy.openvla.model import OpenVla
from vla_bench.policy.openvla.parallel import Denoiser, assemble, instruction_mean
from vla_bench.policy.openvla.processor import FILE as PROCESSOR_FILE
from vla_bench.policy.openvla.processor import read_processor
from vla_bench.policy.precision import Precision
from vla_bench.policy.quantization.report import describe
from vla_bench.types import Array, Observation, PrecisionReport

Prompts = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What B observations are for the model.

    Attributes:
        prompts: B lists of token ids.
        pixels: (B, channels, H, W) in the model's type.
        state: (B, size) normalised state of the robot, or None.
    """

    prompts: Prompts
    pixels: Tensor
    state: Tensor | None


@dataclass(frozen=True, slots=True)
class Parts:
    """A loaded checkpoint: the model, what stands around it, and its conventions.

    Attributes:
        conventions: Of the card.
        model: With weights.
        engine: What runs it.
        frames: Path of the pictures.
        statistics: By data set; `scaling` and `state_scaling` are those of one of them.
        scaling: Of the actions.
        tokens: Values of action tokens.
        chunk: Number of actions that are predicted at once.
        state_scaling, state_projector: Of the robot's state, where it is an input.
        precision_report: What the precision came to.
    """

    conventions: Conventions
    model: OpenVla
    engine: Engine
    frames: Frames
    statistics: Statistics
    scaling: Scaling
    tokens: ActionTokens
    chunk: int = 1
    state_scaling: Scaling | None = None
    state_projector: ScalarProjector | None = None
    precision_report: PrecisionReport | None = None

    @property
    def slots(self) -> int:
        """Number of action positions of a chunk."""
        return self.chunk * self.scaling.size

    def reported(self, precision: Precision, **further: nn.Module) -> Parts:
        """Return the same checkpoint with the report of its precision; `further` are parts beside it."""
        modules = {"": self.model, "proprio_projector": self.state_projector, **further}
        present = {name: module for name, module in modules.items() if module is not None}
        return replace(self, precision_report=describe(present, precision, self.model.device))

    def with_option(self, option: str, value: Any) -> Parts:
        """Return the same checkpoint under one other convention.

        Raises:
            UnknownNameError: It is a normalisation key that the checkpoint does not have.
        """
        conventions = Conventions.model_validate({**self.conventions.model_dump(), option: value})
        frames = Frames(conventions, self.frames.processor)
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

    def prepare(self, observations: Sequence[Observation], prompts: Prompts) -> Inputs:
        """Return the model's input for B observations."""
        model = self.model
        pixels = torch.from_numpy(np.stack([self.frames(seen) for seen in observations]))
        state = None
        if self.state_scaling is not None:
            raw = np.stack([robot_state(seen) for seen in observations])
            state = torch.from_numpy(self.state_scaling.normalise(raw)).float().to(model.device, model.dtype)
        return Inputs(prompts, pixels.to(model.device, model.dtype), state)

    def visual(self, inputs: Inputs) -> Tensor:
        """(B, N, hidden) what stands on the pictures' side of OFT's sequence."""
        language = instruction_mean(self.model, inputs.prompts) if self.conventions.film else None
        seen = self.engine.see(inputs.pixels, language)
        if inputs.state is None or self.state_projector is None:
            return seen
        return torch.cat([seen, self.state_projector(inputs.state)[:, None]], dim=1)

    def hidden(self, inputs: Inputs) -> Tensor:
        """(B, slots, hidden) hidden states from which OFT reads its actions."""
        passed = assemble(self.model, inputs.prompts, self.visual(inputs), self.slots)
        return self.engine.hidden(passed, self.slots)

    def answer(self, inputs: Inputs, forced: Tensor | None = None) -> Decoded:
        """Return the (B, slots) action tokens: one after the other, or all at once from OFT's hidden states.

        Args:
            inputs: B observations.
            forced: (B, slots) ids that each next token follows; without effect where all are chosen at once.
        """
        if self.conventions.head == "tokens":
            if forced is None:
                return self.engine.tokens(inputs.pixels, inputs.prompts, self.slots)
            return greedy(self.model, inputs.pixels, inputs.prompts, self.slots, forced)
        logits = self.model.language_model.lm_head(self.hidden(inputs))
        return Decoded(logits.argmax(-1), logits)

    def values(self, tokens: Tensor) -> Array:
        """(B, slots) token ids → (B, T, A) in [−1, 1]."""
        return self.tokens.decode(tokens.cpu().numpy()).reshape(-1, self.chunk, self.scaling.size)


@dataclass(frozen=True, slots=True)
class Decided:
    """What B inputs were answered with.

    Attributes:
        values: (B, T, A) in [−1, 1].
        tokens: (B, T, A) ids that they come from, where the head speaks in tokens.
    """

    values: Array
    tokens: NDArray[np.integer] | None = None


Decode = Callable[[Parts, Inputs], Decided]


def decode_tokens(parts: Parts, inputs: Inputs) -> Decided:
    """Actions as tokens."""
    tokens = parts.answer(inputs).tokens
    values = parts.values(tokens)
    return Decided(values, tokens.cpu().numpy().reshape(values.shape))


def l1_decoder(head: L1Head) -> Decode:
    """Regressed actions."""

    def decode(parts: Parts, inputs: Inputs) -> Decided:
        return Decided(head(parts.hidden(inputs)).double().cpu().numpy())

    return decode


def load(
    source: Source, conventions: Conventions, chunk: int, precision: Precision, device: torch.device
) -> Parts:
    """Load everything but the action head; what is small and can be wrong comes before the weights.

    Raises:
        ConventionError: Parts and conventions do not go together.
        MissingDataError: A file is not there.
        DataError: A file cannot be used.
    """
    require_parts(source, conventions.parts)
    config = config_of(source)
    statistics = read_statistics(source.holding("dataset_statistics.json"), config.statistics)
    scaling, state = scalings(statistics, conventions)
    processor = read_processor(source.holding(PROCESSOR_FILE))
    if len(processor.towers) != len(config.towers):
        raise DataError(
            source.holding(PROCESSOR_FILE) / PROCESSOR_FILE,
            f"is for {len(processor.towers)} vision towers, the model has {len(config.towers)}",
        )
    model = load_model(source, precision, device, film=conventions.film)
    projector = None
    if state is not None:
        projector = ScalarProjector(state.size, config.hidden)
        load_part(projector, source, "proprio_projector", precision, device)
    frames = Frames(conventions, processor)
    tokens = ActionTokens(config.bins, config.vocabulary)
    engine = ENGINES[conventions.decode](model)
    return Parts(conventions, model, engine, frames, statistics, scaling, tokens, chunk, state, projector)


def scalings(statistics: Statistics, conventions: Conventions) -> tuple[Scaling, Scaling | None]:
    """Return the scaling of the actions, and of the robot's state where it is an input.

    Raises:
        UnknownNameError: The statistics do not have the data set.
        DataError: They do not have the numbers.
    """
    key = statistics.key(conventions.unnorm_key)
    epsilon = 0.0 if conventions.head == "tokens" else OFT_EPSILON
    state = statistics.scaling(key, "proprio", conventions.bounds) if conventions.state else None
    return statistics.scaling(key, "action", conventions.bounds, epsilon), state


def load_denoiser(parts: Parts, source: Source, precision: Precision) -> Denoiser:
    """Load the diffusion head and what embeds the noisy actions."""
    model, conventions = parts.model, parts.conventions
    head = DiffusionHead(model.config.hidden, parts.scaling.size)
    load_part(head, source, "action_head", precision, model.device)
    projector = ScalarProjector(1, model.config.hidden)
    load_part(projector, source, "noisy_action_projector", precision, model.device)
    schedule = Ddim(conventions.diffusion_trained, conventions.diffusion_steps)
    return Denoiser(head, projector, schedule, parts.engine.hidden)
