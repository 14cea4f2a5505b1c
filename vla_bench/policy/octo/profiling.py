"""What an Octo policy tells of its speed: the passes that an answer cannot do without, and their work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vla_bench.policy.base import Policy
from vla_bench.policy.counting import Rule, work_of
from vla_bench.policy.octo.blocks import Attention
from vla_bench.policy.octo.heads import DiffusionHead
from vla_bench.policy.octo.model import Inputs
from vla_bench.policy.octo.parts import History, Parts
from vla_bench.policy.octo.sequence import OBSERVATION
from vla_bench.policy.profile import Part, Profile, Work
from vla_bench.policy.quantization.scheme import type_name


def describe(parts: Parts, plain: Policy | None) -> Profile:
    """Return the profile of a policy.

    Args:
        parts: Its model, and how it is run.
        plain: The same policy without recorded passes; None where there are none anyway.
    """
    return Profile(
        device=str(parts.model.device),
        dtype=type_name(parts.model.dtype),
        plain=plain,
        work=partial(work, parts),
        parts=partial(plain_passes, parts),
        facts=lambda: {**parts.passes.facts(), "text": "encoded once for each instruction, not timed"},
    )


@torch.inference_mode()
def plain_passes(parts: Parts, batch: Sequence[History]) -> list[Part]:
    """The modules' forward passes for histories of one length: stems, projections, blocks, head's network."""
    model, head = parts.model, parts.head
    inputs = parts.told(parts.prepare(batch), [history[-1].instruction for history in batch])
    pictures = {name: model.shown(name, inputs) for name in inputs.pictures}
    task = model.task_groups(inputs)
    steps = model.step_groups(inputs, task)
    tokens = model.transform(task, steps)[head.reads]
    sequence = model.sequence(task, steps)
    found = [Part("inference.vision", _run(_stem, parts, name, shown)) for name, shown in pictures.items()]
    if inputs.numbers:
        numbers = Inputs(inputs.steps, {}, numbers=inputs.numbers)
        found.append(Part("inference.vision", _run(model.look, numbers)))
    if task:
        found.append(Part("inference.transformer", _run(model.task_groups, inputs)))
    found.append(Part("inference.transformer", _run(model.attend, *sequence)))
    return [*found, _answering(parts, tokens.tokens[:, -1].float(), tokens.mask[:, -1])]


def _stem(parts: Parts, name: str, shown: Tensor) -> Tensor:
    seen: Tensor = parts.model.stems[name](shown)
    return parts.model.projections[OBSERVATION + name](seen.flatten(0, -2))


def _answering(parts: Parts, tokens: Tensor, mask: Tensor) -> Part:
    """The head's network as often as it runs; of a head without steps, the head."""
    head = parts.head
    if not isinstance(head, DiffusionHead):
        return Part("inference.head", _run(head, tokens, mask, None, parts.scaling.size))
    embedding = head.pooled(tokens, mask)
    noisy = embedding.new_zeros(*embedding.shape[:-1], head.horizon * head.size)
    time = embedding.new_zeros(*embedding.shape[:-1], 1)
    return Part("inference.head", _run(head.score, embedding, noisy, time), len(head.schedule.betas))


def _run(function: Callable[..., object], *inputs: Any) -> Callable[[], object]:
    """The call, without what training would keep."""
    return torch.inference_mode()(partial(function, *inputs))


def work(parts: Parts, batch: Sequence[History]) -> Mapping[str, Work]:
    """Work of one call by phase."""
    modules = (parts.model, parts.head)
    found: dict[str, Work] = {}
    for part in plain_passes(parts, batch):
        once = work_of(part.call, modules, parts.report, RULES)
        before = found.get(part.phase, Work(0, 0))
        found[part.phase] = Work(
            before.flops + part.times * once.flops, before.bytes + part.times * once.bytes
        )
    return found


def _attention(layer: Attention, inputs: tuple[Any, ...], output: Tensor) -> float:
    """Scores and mixing: 4 (queries × keys × width), in every row of the batch."""
    queries, context = inputs[0], inputs[1]
    return 4.0 * queries.shape[:-1].numel() * context.shape[-2] * queries.shape[-1]


RULES: Mapping[type[torch.nn.Module], Rule] = {Attention: _attention}
