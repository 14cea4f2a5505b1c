"""OFT's parallel decoding: all actions of a chunk from one pass with attention in both directions.

The order is [begin][pictures, state, time][rest of the prompt][action slots][stop]; hidden states are taken
one position early, from the last token of the prompt. With causal attention, what transformers does by
itself, success falls from 97.6 % to under 60 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_bench.policy.openvla.heads import Ddim, DiffusionHead, ScalarProjector, time_embedding
from vla_bench.policy.openvla.model import OpenVla, left_pad, positions
from vla_bench.policy.openvla.prompts import STOP


@dataclass(frozen=True, slots=True)
class PassInputs:
    """Input of one pass.

    Attributes:
        embeddings: (B, L, hidden).
        mask: (B, L) what is not padding, or None.
    """

    embeddings: Tensor
    mask: Tensor | None


def instruction_mean(model: OpenVla, prompts: Sequence[Sequence[int]]) -> Tensor:
    """(B, hidden) mean embedding of the prompt and the stop token: what FiLM modulates with."""
    return torch.stack([model.embed([*ids, STOP]).mean(0) for ids in prompts])


def assemble(
    model: OpenVla, prompts: Sequence[Sequence[int]], visual: Tensor, slots: int, fill: Tensor | None = None
) -> PassInputs:
    """Put a batch together.

    Args:
        model: For its embeddings.
        prompts: B lists of token ids.
        visual: (B, N, hidden) everything that stands on the pictures' side.
        slots: Number of action positions.
        fill: (B, slots, hidden) what stands at them; zeros without.
    """
    sequences = []
    for i, ids in enumerate(prompts):
        text = model.embed([*ids, STOP])
        empty = text.new_zeros(slots, text.shape[1]) if fill is None else fill[i]
        sequences.append(torch.cat([text[:1], visual[i], text[1:-1], empty, text[-1:]]))
    return PassInputs(*left_pad(sequences))


def action_hidden(model: OpenVla, inputs: PassInputs, slots: int) -> Tensor:
    """(B, slots, hidden) final hidden states from which the actions are read."""
    batch, length, _ = inputs.embeddings.shape
    # an additive mask of zeros, the same for every query: nothing is causal, only padding is left out
    attention = inputs.embeddings.new_zeros(batch, 1, length, length)
    at = None
    if inputs.mask is not None:
        attention.masked_fill_(~inputs.mask[:, None, None, :], torch.finfo(attention.dtype).min)
        at = positions(inputs.mask)
    out = model.language_model.model(
        inputs_embeds=inputs.embeddings, attention_mask=attention, position_ids=at, use_cache=False
    )
    return out.last_hidden_state[:, -slots - 2 : -2]


@dataclass(frozen=True, slots=True)
class Denoiser:
    """The diffusion head with what it needs.

    Attributes:
        head: Predicts the noise.
        projector: Embeds noisy numbers.
        schedule: Which steps are taken.
        hidden: Inputs of a pass and number of slots → hidden states at the slots.
    """

    head: DiffusionHead
    projector: ScalarProjector
    schedule: Ddim
    hidden: Callable[[PassInputs, int], Tensor]

    def __call__(
        self, model: OpenVla, prompts: Sequence[Sequence[int]], visual: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Denoise (B, T, A) actions from `noise`; one pass of the model a step.

        Returns:
            The actions, and the hidden states of the last pass.
        """
        sample, slots = noise, noise.shape[1] * noise.shape[2]
        hidden = visual
        for step in self.schedule.timesteps:
            time = time_embedding(step, visual.shape[2]).to(visual)
            seen = torch.cat([visual, time.expand(len(visual), 1, -1)], dim=1)
            fill = self.projector(sample.reshape(len(sample), slots, 1))
            hidden = self.hidden(assemble(model, prompts, seen, slots, fill), slots)
            sample = self.schedule.step(self.head(hidden), step, sample)
        return sample, hidden
