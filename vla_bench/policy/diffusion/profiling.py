"""What a diffusion policy tells of its speed: the passes that an answer cannot do without, and their work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from vla_bench.policy.base import Policy
from vla_bench.policy.counting import work_of
from vla_bench.policy.diffusion.parts import History, Parts
from vla_bench.policy.profile import Part, Profile, Work
from vla_bench.policy.quantization.scheme import type_name


def describe(parts: Parts, plain: Policy | None) -> Profile:
    """Return the profile of a policy.

    Args:
        parts: Its network, and how it is run.
        plain: The same policy without recorded passes; None where there are none anyway.
    """
    return Profile(
        device=str(parts.net.device),
        dtype=type_name(parts.net.dtype),
        plain=plain,
        work=partial(work, parts),
        parts=partial(plain_passes, parts),
        facts=lambda: {**parts.passes.facts(), "steps": len(parts.passes.schedule.steps)},
    )


@torch.inference_mode()
def plain_passes(parts: Parts, batch: Sequence[History]) -> list[Part]:
    """The modules' forward passes: the encoders of pictures, and the network once for each step."""
    net, design = parts.net, parts.design
    observations = {key: value.to(net.dtype) for key, value in parts.prepared(batch).items()}
    pictures = net.encoder.prepared(observations)
    condition = parts.condition(observations, [history[-1].instruction for history in batch])
    steps = parts.passes.schedule.steps
    actions = condition.new_zeros(len(batch), design.horizon, design.action_size)
    when = torch.full((len(batch),), steps[0], device=net.device)
    found = [Part("inference.denoise", partial(_run, net.unet, actions, when, condition), len(steps))]
    if pictures:
        found.insert(0, Part("inference.vision", partial(_run, net.encoder.see, pictures)))
    return found


@torch.inference_mode()
def _run(function: Callable[..., object], *inputs: object) -> object:
    """Call, without what training would keep."""
    return function(*inputs)


def work(parts: Parts, batch: Sequence[History]) -> Mapping[str, Work]:
    """Work of one call by phase."""
    found = {}
    for part in plain_passes(parts, batch):
        once = work_of(part.call, [parts.net], parts.precision_report)
        found[part.phase] = Work(part.times * once.flops, part.times * once.bytes)
    return found
