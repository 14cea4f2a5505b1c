"""What an OpenVLA policy tells of its speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vla_bench.policy.base import Policy
from vla_bench.policy.openvla.parts import Parts, Prompts
from vla_bench.policy.openvla.work import Counted, autoregressive, parallel
from vla_bench.policy.profile import Profile, Work
from vla_bench.policy.quantization.scheme import type_name
from vla_bench.types import Observation


def describe(parts: Parts, prompts: Callable[[Sequence[Observation]], Prompts], plain: Policy) -> Profile:
    """Return the profile of a policy.

    Args:
        parts: Its model, and how it is run.
        prompts: Observations → what the model is asked.
        plain: The same policy with transformers' own loop.
    """
    model = parts.model
    return Profile(
        device=str(model.device),
        dtype=type_name(model.dtype),
        plain=plain,
        work=lambda batch: work(parts, prompts([history[-1] for history in batch])),
        facts=parts.engine.facts,
    )


def work(parts: Parts, prompts: Prompts) -> Mapping[str, Work]:
    """Work of one call by phase; a batch is as long as its longest prompt."""
    conventions, batch = parts.conventions, len(prompts)
    counted = Counted(parts.model, parts.precision_report)
    pictures = len(conventions.cameras)
    length = max(map(len, prompts)) + pictures * parts.model.config.towers[0].patches
    if conventions.head == "tokens":
        return autoregressive(counted, batch, length, parts.slots)
    length += parts.slots + 1 + conventions.state  # the slots, the stop token and the state
    if conventions.head != "diffusion":
        answers = parts.slots if conventions.head == "discrete" else 0
        return parallel(counted, batch, pictures, length, answers)
    once, steps = parallel(counted, batch, pictures, length + 1, 0), conventions.diffusion_steps
    passed = once["inference.prefill"]
    return {**once, "inference.prefill": Work(steps * passed.flops, steps * passed.bytes)}
