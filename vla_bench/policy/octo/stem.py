"""From pictures to tokens: a few convolutions, then patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_bench.policy.octo.blocks import EPSILON
from vla_bench.policy.octo.settings import GROUPS, Stem

# of ImageNet's pictures, in 0..1
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SmallStem(nn.Module):
    """The stem of one camera.

    The convolutions' weights are standardised per output channel; they are kept that way, see `names`.

    Args:
        settings: Its sizes.
        channels: Of the input: 3, or 6 with the picture of a goal.
    """

    def __init__(self, settings: Stem, channels: int) -> None:
        super().__init__()
        self.settings = settings
        widths = (channels, *settings.features)
        layers = zip(
            widths[:-1],
            settings.features,
            settings.kernel_sizes,
            settings.strides,
            settings.padding,
            strict=True,
        )
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, k, s, p) for a, b, k, s, p in layers)
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, n, eps=EPSILON) for n in settings.features)
        patch = max(settings.patch_size // 16, 1)
        self.embedding = nn.Conv2d(widths[-1], settings.num_features, patch, patch)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, H, W, channels) uint8 → (N, tokens, num_features), row by row."""
        x = self._normalised(pictures).permute(0, 3, 1, 2).to(self.embedding.weight.dtype)
        if x.device.type == "cpu":
            x = x.contiguous()  # with the channels last, a group norm takes six times as long there
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(convolution(x)).relu()
        return self.embedding(x).flatten(2).transpose(1, 2)

    def _normalised(self, pictures: Tensor) -> Tensor:
        if self.settings.img_norm_type == "default":
            return pictures.float() / 127.5 - 1.0
        repeats = pictures.shape[-1] // 3
        mean, std = (torch.tensor(part * repeats, device=pictures.device) for part in (_MEAN, _STD))
        return (pictures.float() / 255.0 - mean) / std
