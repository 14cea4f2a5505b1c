"""The loss: cross-entropy of action tokens, or L1 of regressed actions; nothing else of a prompt counts."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from vla_bench.learn.training.kind import Outcome
from vla_bench.learn.training.openvla.batch import Batch
from vla_bench.policy.openvla.decoding import sequences
from vla_bench.policy.openvla.model import left_pad, positions
from vla_bench.policy.openvla.parts import Inputs, Parts


def measure(parts: Parts, head: nn.Module | None, batch: Batch, *, bf16: bool) -> Outcome:
    """Compute the loss of a batch: in nats a token, or the mean absolute difference in [−1, 1].

    A prompt is answered at once, each token after the demonstrated ones before it (teacher forcing).

    Args:
        parts: Of the model.
        head: OFT's, which regresses actions; None where they are tokens.
        batch: Samples.
        bf16: Whether passes compute in bfloat16.
    """
    device = parts.model.device
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16), _attention(device, bf16=bf16):
        inputs = _inputs(parts, batch)
        if head is not None:
            return _regressed(parts, head, inputs, batch)
        return _spoken(parts, inputs, batch)


def action_logits(parts: Parts, inputs: Inputs, targets: Tensor) -> Tensor:
    """(B, slots, vocabulary) logits of the action tokens, each after those of `targets`, (B, slots)."""
    model = parts.model
    if parts.conventions.head == "discrete":
        return model.language_model.lm_head(parts.hidden(inputs))
    before = targets[:, :-1].tolist()
    texts = [[*ids, *tokens] for ids, tokens in zip(inputs.prompts, before, strict=True)]
    embeddings, mask = left_pad(sequences(model, model.see(inputs.pixels), texts))
    return model.language_model(
        inputs_embeds=embeddings,
        attention_mask=None if mask is None else mask.long(),
        position_ids=None if mask is None else positions(mask),
        use_cache=False,
        logits_to_keep=targets.shape[1],
    ).logits


def _attention(device: torch.device, *, bf16: bool) -> AbstractContextManager[Any]:
    """On the CPU in bfloat16, fused attention is slower than unfused: its way back took 2/5 of a step."""
    return sdpa_kernel(SDPBackend.MATH) if bf16 and device.type == "cpu" else nullcontext()


def _inputs(parts: Parts, batch: Batch) -> Inputs:
    model = parts.model
    state = None if batch.state is None else batch.state.to(model.device, model.dtype)
    return Inputs(batch.prompts, batch.pixels.to(model.device, model.dtype), state)


def _spoken(parts: Parts, inputs: Inputs, batch: Batch) -> Outcome:
    wanted = parts.tokens.encode(batch.values)
    targets = torch.from_numpy(wanted.reshape(len(wanted), -1)).to(parts.model.device)
    logits = action_logits(parts, inputs, targets).float()
    counted = np.repeat(batch.mask[..., None], wanted.shape[2], axis=2)
    chosen = torch.from_numpy(counted.reshape(len(wanted), -1)).to(targets.device)
    loss = functional.cross_entropy(logits[chosen], targets[chosen])
    said = logits.detach().argmax(-1).cpu().numpy().reshape(wanted.shape)
    right = ((said == wanted) & counted).sum((0, 1)).astype(np.float64)
    apart = np.abs(parts.tokens.decode(said) - parts.tokens.decode(wanted))
    return Outcome(loss, right, counted.sum((0, 1)).astype(np.float64), float(apart[counted].mean()))


def _regressed(parts: Parts, head: nn.Module, inputs: Inputs, batch: Batch) -> Outcome:
    said = head(parts.hidden(inputs)).float()
    wanted = torch.from_numpy(batch.values).to(said)
    apart = (said - wanted).abs()[torch.from_numpy(batch.mask).to(said.device)]
    loss = apart.mean()
    counted = np.full(wanted.shape[2], float(batch.mask.sum()))
    return Outcome(loss, None, counted, float(loss.detach()))
