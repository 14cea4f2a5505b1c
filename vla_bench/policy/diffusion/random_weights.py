"""A diffusion policy with weights that are made up: for measuring speed and memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from vla_bench.policy.diffusion.checkpoint import Trained
from vla_bench.policy.diffusion.design import Design
from vla_bench.policy.diffusion.model import DiffusionNet
from vla_bench.policy.diffusion.scaling import Affine, Identity, Scaling
from vla_bench.policy.made_up import drawn

# levels in 0..1 become −1..1
_PICTURES = Affine(torch.tensor([2.0]), torch.tensor([-1.0]))


def made_up(design: Design, source: Path, device: torch.device) -> Trained:
    """Return a policy of a design with weights that are drawn when they are read; only pictures are scaled.

    Args:
        design: What it is made of.
        source: Says so; named in errors.
        device: Where the weights are drawn.
    """
    scalings: dict[str, Scaling] = {each.key: Identity() for each in design.numbers}
    scalings |= {each.key: _PICTURES for each in design.cameras}
    state = DiffusionNet.on_meta(design).state_dict()
    return Trained(
        source, design, drawn(state, "diffusion", source, device), {**scalings, "action": Identity()}, {}
    )


def with_drawn_weights(trained: Trained, device: torch.device) -> Trained:
    """Return a checkpoint with everything but its weights."""
    return replace(trained, weights=drawn(trained.weights, "diffusion", trained.source, device))
