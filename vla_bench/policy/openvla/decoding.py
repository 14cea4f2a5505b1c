"""Autoregressive decoding: greedily, one action token a step, as many as an action has numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vla_bench.policy.openvla.model import OpenVla, left_pad, positions


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a batch of B prompts was answered with.

    Attributes:
        tokens: (B, steps) token ids.
        logits: (B, steps, vocabulary) from which they were taken.
    """

    tokens: Tensor
    logits: Tensor


def sequences(model: OpenVla, visual: Tensor, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    """B sequences of embeddings (Lᵢ, hidden): the beginning of the prompt, what is seen, the rest."""
    texts = [model.embed(ids) for ids in prompts]
    return [torch.cat([text[:1], seen, text[1:]]) for text, seen in zip(texts, visual, strict=True)]


@torch.inference_mode()
def greedy(
    model: OpenVla,
    pixels: Tensor,
    prompts: Sequence[Sequence[int]],
    steps: int,
    forced: Tensor | None = None,
) -> Decoded:
    """Decode `steps` tokens after each prompt.

    Never stops at the end-of-text token: the last `steps` ids would then include ids of the prompt.

    Args:
        model: With weights.
        pixels: (B, channels, H, W) in the model's type.
        prompts: B lists of token ids, of any lengths, beginning with the beginning-of-text token.
        steps: Size of the action.
        forced: (B, steps) ids that each next token follows instead of those chosen (teacher forcing).
    """
    inputs, mask = left_pad(sequences(model, model.see(pixels), prompts))
    at = None if mask is None else positions(mask)
    cache, tokens, logits = None, [], []
    for step in range(steps):
        out = model.language_model(
            inputs_embeds=inputs,
            attention_mask=None if mask is None else mask.long(),
            position_ids=at,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        logits.append(out.logits[:, -1])
        tokens.append(logits[-1].argmax(-1))
        before = tokens[-1] if forced is None else forced[:, step]
        inputs = model.language_model.model.embed_tokens(before[:, None])
        if mask is not None and at is not None:
            mask = functional.pad(mask, (0, 1), value=True)
            at = at[:, -1:] + 1
    return Decoded(torch.stack(tokens, 1), torch.stack(logits, 1))
