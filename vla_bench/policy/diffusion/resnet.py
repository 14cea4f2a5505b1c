"""Residual networks up to the last feature map, with torchvision's names."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vla_bench.policy.diffusion.design import Vision

Norm = Callable[[int], nn.Module]


def norm_of(vision: Vision) -> Norm:
    """Return what makes the normalisation of so many channels."""
    return (
        nn.BatchNorm2d
        if vision.norm == "batch"
        else (lambda channels: nn.GroupNorm(channels // 16, channels))
    )


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    widening = 1

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), norm(width)
        self.conv2, self.bn2 = _conv(width, width, 3), norm(width)
        self.downsample = _shortcut(inputs, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, width, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """Three convolutions, the middle one on a quarter of the channels, beside a shortcut."""

    widening = 4

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        outputs = width * self.widening
        self.conv1, self.bn1 = _conv(inputs, width, 1), norm(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), norm(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), norm(outputs)
        self.downsample = _shortcut(inputs, outputs, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, 4 × width, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(_conv(inputs, outputs, 1, stride), norm(outputs))


DEPTHS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """A residual network without its classifier."""

    def __init__(self, vision: Vision) -> None:
        super().__init__()
        norm = norm_of(vision)
        block, depths = DEPTHS[vision.backbone]
        first = vision.width
        self.conv1, self.bn1 = _conv(3, first, 7, 2), norm(first)
        inputs, layers = first, []
        for level, depth in enumerate(depths):
            width, blocks = first * 2**level, []
            for i in range(depth):
                blocks.append(block(inputs, width, 2 if level and i == 0 else 1, norm))
                inputs = width * block.widening
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, channels, H / 32, W / 32)."""
        x = F.relu(self.bn1(self.conv1(pictures)))
        x = F.max_pool2d(x, 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))
