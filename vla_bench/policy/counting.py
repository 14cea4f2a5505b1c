"""What a call computes and reads: every product of its layers is counted while it runs once.

Nothing is derived from a formula of the whole model, so that a count cannot fall behind the model. Norms,
activations, embeddings and positions are not counted: they are small.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vla_bench.policy.precision import backend
from vla_bench.policy.profile import Work
from vla_bench.types import PrecisionReport

# module, its inputs, its output → operations
Rule = Callable[[Any, tuple[Any, ...], Tensor], float]


def _linear(layer: Any, inputs: tuple[Any, ...], output: Tensor) -> float:
    """2 (rows × in × out); a quantised layer has the sizes of the one that it replaced."""
    return 2.0 * output.numel() * layer.in_features


def _convolution(layer: Any, inputs: tuple[Any, ...], output: Tensor) -> float:
    """2 (elements of the output × those of a kernel); a transposed one spreads each of its inputs."""
    spreads = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d)
    return 2.0 * (inputs[0] if spreads else output).numel() * layer.weight[0].numel()


def work_of(
    call: Callable[[], object],
    modules: Iterable[nn.Module],
    report: PrecisionReport | None = None,
    rules: Mapping[type[nn.Module], Rule] | None = None,
) -> Work:
    """Run a call once, and return the operations of its products and the bytes of the weights that they read.

    A layer that runs twice reads its weight twice; where both are in a cache, that is no traffic.

    Args:
        call: What is counted.
        modules: Whose layers take part.
        report: What the precision came to, for the bytes of quantised layers.
        rules: Further kinds of modules that compute something of their own, beside their layers.
    """
    scheme = None if report is None else backend(report.precision).scheme
    found: list[Work] = []

    def noted(rule: Rule, reads: bool, layer: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        stored: Iterable[Tensor] = (layer.weight,) if reads else ()
        if reads and scheme is not None and scheme.is_converted(layer):
            stored = scheme.storage(layer)
        found.append(Work(rule(layer, inputs, output), float(sum(tensor.nbytes for tensor in stored))))

    with contextlib.ExitStack() as hooks:
        for layer in {id(each): each for module in modules for each in module.modules()}.values():
            if (rule := _rule(layer, rules or {})) is not None:
                reads = not isinstance(layer, tuple(rules or ()))
                hooks.callback(layer.register_forward_hook(partial(noted, rule, reads)).remove)
        with torch.inference_mode():
            call()
    return Work(sum(work.flops for work in found), sum(work.bytes for work in found))


def _rule(layer: nn.Module, rules: Mapping[type[nn.Module], Rule]) -> Rule | None:
    if hasattr(layer, "in_features"):
        return _linear
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d):
        return _convolution
    return next((rule for kind, rule in rules.items() if isinstance(layer, kind)), None)
