"""The network as passes: functions of tensors that CUDA records once and replays."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial

import torch
from torch import Tensor

from vla_bench.policy.diffusion.model import DiffusionNet
from vla_bench.policy.diffusion.schedule import Schedule
from vla_bench.policy.graphs import Function, Graphs


class Passes:
    """Observations to features, and noise to actions with all its steps: a graph each.

    Elsewhere than on CUDA the same functions are called as they are.

    Args:
        net: With weights.
        schedule: The steps from noise to actions.
        graphs: Records and replays; None calls the functions as they are everywhere.
    """

    def __init__(self, net: DiffusionNet, schedule: Schedule, graphs: Graphs | None) -> None:
        self.net, self.schedule, self.graphs = net, schedule, graphs

    @torch.inference_mode()
    def features(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Key → (B × history, …), normalised → (B, history × features)."""
        keys = tuple(observations)
        (found,) = self._run("vision", partial(self._features, keys), *observations.values(), key=keys)
        return found

    @torch.inference_mode()
    def denoise(self, condition: Tensor, noise: Tensor) -> Tensor:
        """(B, condition) and (draws, B, horizon, A) → (B, horizon, A) float32, normalised."""
        (found,) = self._run("denoise", self._denoise, condition, noise, key=None)
        return found

    def facts(self) -> Mapping[str, str | float]:
        """Return how many graphs there are, and which passes could not be recorded."""
        return {} if self.graphs is None else self.graphs.facts()

    def _run(self, name: str, function: Function, *inputs: Tensor, key: Hashable) -> tuple[Tensor, ...]:
        if self.graphs is None:
            return function(*inputs)
        return self.graphs(name, function, *inputs, key=key)

    def _features(self, keys: tuple[str, ...], *values: Tensor) -> tuple[Tensor]:
        return (self.net.features(dict(zip(keys, values, strict=True))),)

    def _denoise(self, condition: Tensor, noise: Tensor) -> tuple[Tensor]:
        return (self.net.denoise(condition, noise.unbind(), self.schedule),)
