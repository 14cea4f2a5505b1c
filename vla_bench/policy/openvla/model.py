"""The OpenVLA model: vision towers, projector and Llama, under the names of the official checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from vla_bench.policy.openvla.config import ModelConfig
from vla_bench.policy.openvla.vit import VisionTransformer


class VisionBackbone(nn.Module):
    """One or two towers that see the same pictures; their features stand side by side."""

    def __init__(self, config: ModelConfig, language_width: int | None) -> None:
        super().__init__()
        self.featurizer = VisionTransformer(config.towers[0], language_width)
        if len(config.towers) == 2:
            self.fused_featurizer = VisionTransformer(config.towers[1], language_width)

    @property
    def towers(self) -> list[VisionTransformer]:
        """The towers, in the order of their channels."""
        return [tower for tower in self.children() if isinstance(tower, VisionTransformer)]

    def forward(self, pixels: Tensor, language: Tensor | None = None) -> Tensor:
        """(B, pictures × towers × 3, H, W) → (B, pictures × patches, width of all towers).

        Channels: for each picture, three for each tower.
        """
        pictures = pixels.split(3 * len(self.towers), dim=1)
        return torch.cat([self._features(picture, language) for picture in pictures], dim=1)

    def _features(self, picture: Tensor, language: Tensor | None) -> Tensor:
        channels = picture.split(3, dim=1)
        each = [tower(x, language) for tower, x in zip(self.towers, channels, strict=True)]
        return torch.cat(each, dim=2)


class Projector(nn.Module):
    """From the vision towers' features to Llama's; three layers after two towers, two after one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        vision, hidden = config.vision_width, config.hidden
        fused = len(config.towers) == 2
        widths = [vision, 4 * vision, hidden, hidden] if fused else [vision, hidden, hidden]
        self.layers = len(widths) - 1
        for i in range(self.layers):
            setattr(self, f"fc{i + 1}", nn.Linear(widths[i], widths[i + 1]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, vision width) → (B, N, hidden)."""
        x = self.get_submodule("fc1")(x)
        for i in range(2, self.layers + 1):
            x = self.get_submodule(f"fc{i}")(functional.gelu(x))
        return x


class OpenVla(nn.Module):
    """The whole model.

    Args:
        config: Sizes.
        film: Whether the instruction modulates the vision towers.
    """

    def __init__(self, config: ModelConfig, *, film: bool = False) -> None:
        super().__init__()
        self.config = config
        self.vision_backbone = VisionBackbone(config, config.hidden if film else None)
        self.projector = Projector(config)
        llama: dict[str, Any] = {**config.llama, "attn_implementation": "sdpa"}
        self.language_model = LlamaForCausalLM(LlamaConfig(**llama))
        self.eval()

    @classmethod
    def on_meta(cls, config: ModelConfig, *, film: bool = False) -> OpenVla:
        """Return the model with names and shapes but no weights; only Llama's tables of angles are real."""
        with torch.device("meta"):
            model = cls(config, film=film)
        model.language_model.model.rotary_emb = LlamaRotaryEmbedding(model.language_model.config)
        return model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.language_model.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the embeddings are in."""
        return self.language_model.model.embed_tokens.weight.dtype

    def embed(self, ids: Sequence[int]) -> Tensor:
        """L token ids → (L, hidden)."""
        return self.language_model.model.embed_tokens(torch.tensor(list(ids), device=self.device))

    def see(self, pixels: Tensor, language: Tensor | None = None) -> Tensor:
        """(B, channels, H, W) and, with FiLM, (B, hidden) → (B, visual tokens, hidden)."""
        return self.projector(self.vision_backbone(pixels, language))


def left_pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Stack sequences of embeddings (Lᵢ, hidden) that end together.

    Returns:
        (B, L, hidden) with zeros before the shorter ones, and the (B, L) mask of what is real, or None if all
        is: attention without a mask takes another kernel, and the original never has one.
    """
    longest = max(len(s) for s in sequences)
    embeddings = torch.stack([functional.pad(s, (0, 0, longest - len(s), 0)) for s in sequences])
    if all(len(s) == longest for s in sequences):
        return embeddings, None
    lengths = torch.tensor([len(s) for s in sequences], device=embeddings.device)
    mask = torch.arange(longest, device=embeddings.device) >= (longest - lengths)[:, None]
    return embeddings, mask


def positions(mask: Tensor) -> Tensor:
    """(B, L) mask → (B, L) position of each real token, counted from the first real one."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)
