"""The vision towers side by side: all pictures at once, and on CUDA both towers at the same time.

The products of one picture are too small to occupy a large GPU; a second tower can use what the first leaves.
What it gains is not measured yet.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import sdpa_kernel

from vla_bench.policy.openvla.llama import KERNELS
from vla_bench.policy.openvla.model import OpenVla


class Towers:
    """Vision and projector as one function of tensors that can be recorded as a CUDA graph."""

    def __init__(self, model: OpenVla) -> None:
        self._model = model
        self._beside = torch.cuda.Stream(model.device) if model.device.type == "cuda" else None

    def __call__(self, pixels: Tensor, language: Tensor | None = None) -> tuple[Tensor]:
        """(B, channels, H, W) and, with FiLM, (B, hidden) → (B, visual tokens, hidden)."""
        with sdpa_kernel(KERNELS):
            return (self._see(pixels, language),)

    def _see(self, pixels: Tensor, language: Tensor | None) -> Tensor:
        towers = self._model.vision_backbone.towers
        batch, channels, *size = pixels.shape
        pictures = channels // (3 * len(towers))
        split = pixels.reshape(batch, pictures, len(towers), 3, *size).unbind(2)
        each = [x.reshape(batch * pictures, 3, *size) for x in split]
        words = language if language is None else language.repeat_interleave(pictures, dim=0)
        if self._beside is None or len(towers) == 1:
            features = [tower(x, words) for tower, x in zip(towers, each, strict=True)]
        else:
            here = torch.cuda.current_stream(pixels.device)
            self._beside.wait_stream(here)
            with torch.cuda.stream(self._beside):
                second = towers[1](each[1], words)
            features = [towers[0](each[0], words), second]
            here.wait_stream(self._beside)
        seen = torch.cat(features, dim=2)
        return self._model.projector(seen.reshape(batch, -1, seen.shape[2]))
