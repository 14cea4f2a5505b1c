"""The loss: cross-entropy of action tokens, or L1 of regressed actions; nothing else of a prompt counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_bench.learn.training.config import TrainingConfig
from vla_bench.learn.training.kind import Outcome
from vla_bench.learn.training.openvla.batch import Batch
from vla_bench.learn.training.passes import computing
from vla_bench.policy.openvla.decoding import sequences
from vla_bench.policy.openvla.model import left_pad, positions
from vla_bench.policy.openvla.parts import Inputs, Parts


def measure(parts: Parts, modules: Mapping[str, nn.Module], config: TrainingConfig, batch: Batch) -> Outcome:
    """Compute the loss of a batch: in nats a token, or the mean absolute difference in [−1, 1].

    A prompt is answered at once, each token after the demonstrated ones before it (teacher forcing).

    Args:
        parts: Of the model.
        modules: Beside the model, by name: `action_head` is OFT's, which regresses actions; without it they
            are tokens. `foresight` reads what only training asks for.
        config: How it is trained.
        batch: Samples.
    """
    with computing(parts.model.device, config.precision):
        inputs = _inputs(parts, batch)
        if "action_head" in modules:
            states, outcome = _regressed(parts, modules["action_head"], inputs, batch)
        else:
            states, outcome = _spoken(parts, config.label_spread, inputs, batch)
        if batch.waypoints is None:
            return outcome
        read = modules["foresight"](states[:, 0]).float()
    missed = functional.smooth_l1_loss(read, batch.waypoints.to(read), beta=0.1)
    return replace(outcome, objective=outcome.objective + config.foresight * missed)


def action_logits(parts: Parts, inputs: Inputs, targets: Tensor) -> Tensor:
    """(B, slots, vocabulary) logits of the action tokens, each after those of `targets`, (B, slots)."""
    return parts.model.language_model.lm_head(_states(parts, inputs, targets))


def _states(parts: Parts, inputs: Inputs, targets: Tensor) -> Tensor:
    """(B, slots, hidden) from which the action tokens are said."""
    model = parts.model
    if parts.conventions.head == "discrete":
        return parts.hidden(inputs)
    before = targets[:, :-1].tolist()
    texts = [[*ids, *tokens] for ids, tokens in zip(inputs.prompts, before, strict=True)]
    embeddings, mask = left_pad(sequences(model, model.see(inputs.pixels), texts))
    states = model.language_model.model(
        inputs_embeds=embeddings,
        attention_mask=None if mask is None else mask.long(),
        position_ids=None if mask is None else positions(mask),
        use_cache=False,
    ).last_hidden_state
    return states[:, -targets.shape[1] :]


def _inputs(parts: Parts, batch: Batch) -> Inputs:
    model = parts.model
    state = None if batch.state is None else batch.state.to(model.device, model.dtype)
    return Inputs(batch.prompts, batch.pixels.to(model.device, model.dtype), state)


def _spoken(parts: Parts, spread: float, inputs: Inputs, batch: Batch) -> tuple[Tensor, Outcome]:
    wanted = parts.tokens.encode(batch.values)
    targets = torch.from_numpy(wanted.reshape(len(wanted), -1)).to(parts.model.device)
    states = _states(parts, inputs, targets)
    logits = parts.model.language_model.lm_head(states).float()
    counted = np.repeat(batch.mask[..., None], wanted.shape[2], axis=2)
    chosen = torch.from_numpy(counted.reshape(len(wanted), -1)).to(targets.device)
    loss = functional.cross_entropy(logits[chosen], targets[chosen])
    objective = _to_spread_labels(parts, logits, targets, spread)[chosen].mean() if spread else loss
    said = logits.detach().argmax(-1).cpu().numpy().reshape(wanted.shape)
    right = ((said == wanted) & counted).sum((0, 1)).astype(np.float64)
    apart = np.abs(parts.tokens.decode(said) - parts.tokens.decode(wanted))
    count = counted.sum((0, 1)).astype(np.float64)
    return states, Outcome(loss, objective, right, count, float(apart[counted].mean()))


def _to_spread_labels(parts: Parts, logits: Tensor, targets: Tensor, spread: float) -> Tensor:
    """(B, slots, vocabulary), (B, slots) → (B, slots) nats to a bell over the bins around each label."""
    last, bins = parts.tokens.vocabulary, parts.tokens.bins
    apart = torch.arange(last - bins, last, device=targets.device) - targets[..., None]
    continuous = torch.from_numpy(parts.scaling.mask).to(targets.device)
    width = torch.where(continuous, spread, 1e-3).repeat(targets.shape[1] // len(continuous))
    bell = torch.softmax(-0.5 * (apart / width[:, None]).square(), -1)
    return -(bell * torch.log_softmax(logits, -1)[..., last - bins : last]).sum(-1)


def _regressed(parts: Parts, head: nn.Module, inputs: Inputs, batch: Batch) -> tuple[Tensor, Outcome]:
    states = parts.hidden(inputs)
    said = head(states).float()
    wanted = torch.from_numpy(batch.values).to(said)
    apart = (said - wanted).abs()[torch.from_numpy(batch.mask).to(said.device)]
    loss = apart.mean()
    counted = np.full(wanted.shape[2], float(batch.mask.sum()))
    return states, Outcome(loss, loss, None, counted, float(loss.detach()))
