"""Pooling by attention (MAP): learned probes look at the tokens of a time step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_bench.policy.octo.blocks import Attention, Mlp, additive, gelu, norm

HEADS = 8
MLP_RATIO = 4


class AttentionPooling(nn.Module):
    """`probes` outputs of attention over any number of tokens.

    Args:
        width: Features of a token; a multiple of 8.
        probes: How many outputs there are.
    """

    def __init__(self, width: int, probes: int = 1) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, probes, width))
        self.attention = Attention(width, HEADS)
        self.mlp_norm = norm(width)
        self.mlp = Mlp(width, MLP_RATIO * width, width, gelu())

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(..., n, width) tokens and (..., n) which of them count → (..., probes, width)."""
        flat, valid = tokens.flatten(0, -3), mask.flatten(0, -2)
        probes = self.probe.expand(len(flat), -1, -1)
        seen = self.attention(probes, flat, additive(valid[:, None, None, :], tokens.dtype))
        pooled = seen + self.mlp(self.mlp_norm(seen))
        return pooled.unflatten(0, tokens.shape[:-2])
