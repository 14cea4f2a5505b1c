"""The stems' convolutions as they are trained: standardised anew in every pass.

The policy keeps them standardised, which is the same while nothing moves them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

EPSILON = 1e-5
_OWN = ".parametrizations.weight.original"


class Standardised(nn.Module):
    """Mean 0 and standard deviation 1 in every output channel."""

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in, height, width) → the same shape."""
        centred = weight - weight.mean((1, 2, 3), keepdim=True)
        return centred / (centred.std((1, 2, 3), correction=0, keepdim=True) + EPSILON)


def standardise(stems: nn.Module) -> None:
    """Let the convolutions of all stems standardise their weights, in place."""
    for name, module in stems.named_modules():
        if "convolutions." in name and isinstance(module, nn.Conv2d):
            parametrize.register_parametrization(module, "weight", Standardised())


@torch.no_grad()
def baked(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module by the names that the policy knows, with standardised weights."""
    state = module.state_dict()
    found = {}
    for name, value in state.items():
        own = name.removesuffix(_OWN)
        found[name if own == name else f"{own}.weight"] = (
            value if own == name else module.get_submodule(own).weight
        )
    return {name: value.detach() for name, value in found.items()}
