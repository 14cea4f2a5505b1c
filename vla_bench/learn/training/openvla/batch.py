"""Samples as OpenVLA is trained with them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_bench.learn.training.kind import Excerpt
from vla_bench.policy import images
from vla_bench.policy.arm import robot_state
from vla_bench.policy.openvla.conventions import from_commands
from vla_bench.policy.openvla.parts import Parts
from vla_bench.policy.openvla.prompts import prompt
from vla_bench.types import Array


@dataclass(frozen=True, slots=True)
class Batch:
    """B samples.

    Attributes:
        prompts: B lists of token ids.
        pixels: (B, channels, H, W) float32.
        values: (B, T, A) actions in [−1, 1].
        mask: (B, T) which of them belong to the episode.
        state: (B, size) normalised state of the robot, or None.
        waypoints: (B, 11) what is said with foresight, or None.
    """

    prompts: Sequence[Sequence[int]]
    pixels: Tensor
    values: Array
    mask: NDArray[np.bool_]
    state: Tensor | None
    waypoints: Tensor | None


class Collation:
    """Makes batches.

    Args:
        parts: Of the policy.
        tokenize: Prompt → token ids.
    """

    def __init__(self, parts: Parts, tokenize: Callable[[str], Sequence[int]]) -> None:
        template = parts.conventions.prompt
        self._parts = parts
        self._prompt = functools.cache(lambda text: tokenize(prompt(text, template)))

    def __call__(self, excerpts: Sequence[Excerpt]) -> Batch:
        """Samples of one frame each → tensors."""
        parts = self._parts
        tables = [tower.table for tower in parts.frames.processor.towers]
        pixels = np.stack(
            [
                np.concatenate(
                    [images.look_up(table, each) for each in seen.pictures[-1] for table in tables]
                )
                for seen in excerpts
            ]
        )
        physical = [from_commands(each.actions, parts.conventions) for each in excerpts]
        values = np.stack([parts.scaling.normalise(actions) for actions in physical])
        state = None
        if parts.state_scaling is not None:
            seen = [robot_state(each.robot()) for each in excerpts]
            state = torch.from_numpy(parts.state_scaling.normalise(np.stack(seen))).float()
        prompts = [self._prompt(each.instruction) for each in excerpts]
        mask = np.stack([each.mask for each in excerpts])
        ahead = [each.waypoints for each in excerpts if each.waypoints is not None]
        waypoints = torch.from_numpy(np.stack(ahead)) if ahead else None
        return Batch(prompts, torch.from_numpy(pixels), values, mask, state, waypoints)
