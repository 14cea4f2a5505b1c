"""A small vision transformer with the parameter names of timm, so that checkpoints are read as they are.

Features are the output of the last block but one, without the final norm; the last block, the norm and the
pooling are in the checkpoints and never run. They are kept, because quantised loading counts every layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_bench.policy.openvla.config import Tower


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"gelu": functional.gelu, "quick_gelu": quick_gelu}


class Attention(nn.Module):
    """Self-attention with one matrix for queries, keys and values, in this order."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.heads = tower.heads
        self.qkv = nn.Linear(tower.width, 3 * tower.width)
        self.proj = nn.Linear(tower.width, tower.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) → (B, N, width)."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        out = functional.scaled_dot_product_attention(*qkv.unbind(0))
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    """Two layers with an activation between them."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[tower.activation]
        self.fc1 = nn.Linear(tower.width, tower.hidden)
        self.fc2 = nn.Linear(tower.hidden, tower.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) → (B, N, width)."""
        return self.fc2(self.activation(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor a feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the last dimension."""
        return x * self.scale_factor


class Block(nn.Module):
    """A pre-norm transformer block; with FiLM, the instruction scales and shifts between its two halves."""

    def __init__(self, tower: Tower, language_width: int | None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(tower.width, tower.norm_eps)
        self.attn = Attention(tower)
        self.ls1 = LayerScale(tower.width) if tower.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(tower.width, tower.norm_eps)
        self.mlp = Mlp(tower)
        self.ls2 = LayerScale(tower.width) if tower.layer_scale else nn.Identity()
        if language_width is not None:
            self.scale = nn.Linear(language_width, tower.width)
            self.shift = nn.Linear(language_width, tower.width)

    def forward(self, x: Tensor, language: Tensor | None) -> Tensor:
        """(B, N, width) and, with FiLM, (B, language width) → (B, N, width)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        if language is not None:
            x = x * (1 + self.scale(language)[:, None]) + self.shift(language)[:, None]
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbedding(nn.Module):
    """Patches as a convolution."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, tower.width, tower.patch_px, tower.patch_px, bias=not tower.pre_norm)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, patches, width), row by row."""
        return self.proj(pixels).flatten(2).transpose(1, 2)


class AttentionPooling(nn.Module):
    """SigLIP's pooling: only its weights matter here."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.zeros(1, 1, tower.width))
        self.q = nn.Linear(tower.width, tower.width)
        self.kv = nn.Linear(tower.width, 2 * tower.width)
        self.proj = nn.Linear(tower.width, tower.width)
        self.norm = nn.LayerNorm(tower.width, tower.norm_eps)
        self.mlp = Mlp(tower)


class VisionTransformer(nn.Module):
    """One vision tower.

    Args:
        tower: Its sizes.
        language_width: With FiLM, the width of the instruction's mean embedding.
    """

    def __init__(self, tower: Tower, language_width: int | None = None) -> None:
        super().__init__()
        self.tower = tower
        positions = tower.patches + tower.prefix * tower.positions_cover_prefix
        if tower.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, tower.width))
        if tower.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, tower.registers, tower.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, tower.width))
        self.patch_embed = PatchEmbedding(tower)
        self.norm_pre = nn.LayerNorm(tower.width, tower.norm_eps) if tower.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(tower, language_width) for _ in range(tower.depth))
        self.norm = nn.LayerNorm(tower.width, tower.norm_eps)
        if tower.pooled:
            self.attn_pool = AttentionPooling(tower)

    def forward(self, pixels: Tensor, language: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) and, with FiLM, (B, language width) → (B, patches, width)."""
        x = self.patch_embed(pixels)
        if not self.tower.positions_cover_prefix:
            x = x + self.pos_embed
        x = torch.cat([*self._prefix(len(x)), x], dim=1)
        if self.tower.positions_cover_prefix:
            x = x + self.pos_embed
        x = self.norm_pre(x)
        for block in self.blocks[:-1]:
            x = block(x, language)
        return x[:, self.tower.prefix :]

    def _prefix(self, batch: int) -> list[Tensor]:
        names = ["cls_token"] * self.tower.class_token + ["reg_token"] * bool(self.tower.registers)
        return [self.get_parameter(name).expand(batch, -1, -1) for name in names]
