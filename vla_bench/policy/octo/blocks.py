"""The transformer's parts, with flax's defaults: norms with 1e-6, and GELU by its tanh formula."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPSILON = 1e-6


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Boolean mask, True = may attend → what is added to the scores.

    The lowest number, not minus infinity: where nothing may be attended to (a goal without a text), attention
    is then uniform as in the original, and not NaN.
    """
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)


class Attention(nn.Module):
    """Attention with biases; the queries may come from elsewhere than keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, queries: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        """(B, n, width), (B, m, width) and what is added to the (B, 1, n, m) scores → (B, n, width)."""
        query, key, value = self.query(queries), self.key(context), self.value(context)
        parts = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)]
        mixed = nn.functional.scaled_dot_product_attention(*parts, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers."""

    def __init__(self, width: int, hidden: int, out: int, activation: nn.Module) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, out)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) → (..., out)."""
        return self.down(self.activation(self.up(x)))


def gelu() -> nn.Module:
    """The activation of the transformer's blocks."""
    return nn.GELU(approximate="tanh")


def norm(width: int) -> nn.LayerNorm:
    """A layer norm as flax makes it."""
    return nn.LayerNorm(width, eps=EPSILON)


class Block(nn.Module):
    """A block of the transformer, with norms before attention and MLP."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = norm(width), norm(width)
        self.attention = Attention(width, heads)
        self.mlp = Mlp(width, hidden, width, gelu())

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, n, width) and what is added to the (B, 1, n, n) scores → (B, n, width)."""
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed, bias)
        return x + self.mlp(self.mlp_norm(x))
