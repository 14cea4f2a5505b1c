"""A loaded checkpoint: the model with what stands around it, and how its actions are decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vla_bench.errors import DataError
from vla_bench.policy.openvla.actions import OFT_EPSILON, ActionTokens, Scaling, read_statistics
from vla_bench.policy.openvla.checkpoint import Source, config_of, load_model, load_part, require_parts
from vla_bench.policy.openvla.conventions import Conventions, robot_state
from vla_bench.policy.openvla.decoding import greedy
from vla_bench.policy.openvla.frames import Frames
from vla_bench.policy.openvla.heads import Ddim, DiffusionHead, L1Head, ScalarProjector
from vla_bench.policy.openvla.model import OpenVla
from vla_bench.policy.openvla.parallel import Denoiser, action_hidden, assemble, instruction_mean
from vla_bench.policy.openvla.processor import FILE as PROCESSOR_FILE
from vla_bench.policy.openvla.processor import read_processor
from vla_bench.policy.precision import Precision
from vla_bench.types import Array, Observation

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
        frames: Path of the pictures.
        scaling: Of the actions.
        tokens: Values of action tokens.
        chunk: Number of actions that are predicted at once.
        state_scaling, state_projector: Of the robot's state, where it is an input.
    """

    conventions: Conventions
    model: OpenVla
    frames: Frames
    scaling: Scaling
    tokens: ActionTokens
    chunk: int = 1
    state_scaling: Scaling | None = None
    state_projector: ScalarProjector | None = None

    @property
    def slots(self) -> int:
        """Number of action positions of a chunk."""
        return self.chunk * self.scaling.size

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
        seen = self.model.see(inputs.pixels, language)
        if inputs.state is None or self.state_projector is None:
            return seen
        return torch.cat([seen, self.state_projector(inputs.state)[:, None]], dim=1)

    def hidden(self, inputs: Inputs) -> Tensor:
        """(B, slots, hidden) hidden states from which OFT reads its actions."""
        passed = assemble(self.model, inputs.prompts, self.visual(inputs), self.slots)
        return action_hidden(self.model, passed, self.slots)


Decode = Callable[[Inputs], Array]


def token_decoder(parts: Parts) -> Decode:
    """Actions token by token: B inputs → (B, 1, A) in [−1, 1]."""

    def decode(inputs: Inputs) -> Array:
        decoded = greedy(parts.model, inputs.pixels, inputs.prompts, parts.scaling.size)
        return parts.tokens.decode(decoded.tokens.cpu().numpy())[:, None]

    return decode


def discrete_decoder(parts: Parts) -> Decode:
    """All action tokens at once: B inputs → (B, T, A) in [−1, 1]."""

    def decode(inputs: Inputs) -> Array:
        ids = parts.model.language_model.lm_head(parts.hidden(inputs)).argmax(-1).cpu().numpy()
        return parts.tokens.decode(ids).reshape(len(ids), parts.chunk, parts.scaling.size)

    return decode


def l1_decoder(parts: Parts, head: L1Head) -> Decode:
    """Regressed actions: B inputs → (B, T, A)."""

    def decode(inputs: Inputs) -> Array:
        return head(parts.hidden(inputs)).double().cpu().numpy()

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
    epsilon = 0.0 if conventions.head == "tokens" else OFT_EPSILON
    statistics = read_statistics(source.holding("dataset_statistics.json"), config.statistics)
    key = statistics.key(conventions.unnorm_key)
    scaling = statistics.scaling(key, "action", conventions.bounds, epsilon)
    processor = read_processor(source.holding(PROCESSOR_FILE))
    if len(processor.towers) != len(config.towers):
        raise DataError(
            source.holding(PROCESSOR_FILE) / PROCESSOR_FILE,
            f"is for {len(processor.towers)} vision towers, the model has {len(config.towers)}",
        )
    state = statistics.scaling(key, "proprio", conventions.bounds) if conventions.state else None
    model = load_model(source, precision, device, film=conventions.film)
    projector = None
    if state is not None:
        projector = ScalarProjector(state.size, config.hidden)
        load_part(projector, source, "proprio_projector", precision, device)
    frames = Frames(conventions, processor)
    tokens = ActionTokens(config.bins, config.vocabulary)
    return Parts(conventions, model, frames, scaling, tokens, chunk, state, projector)


def load_denoiser(parts: Parts, source: Source, precision: Precision) -> Denoiser:
    """Load the diffusion head and what embeds the noisy actions."""
    model, conventions = parts.model, parts.conventions
    head = DiffusionHead(model.config.hidden, parts.scaling.size)
    load_part(head, source, "action_head", precision, model.device)
    projector = ScalarProjector(1, model.config.hidden)
    load_part(projector, source, "noisy_action_projector", precision, model.device)
    return Denoiser(head, projector, Ddim(conventions.diffusion_trained, conventions.diffusion_steps))
