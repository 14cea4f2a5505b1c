"""From normalised observations to features: pictures through residual networks, numbers as they are."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vla_bench.policy.diffusion.design import CameraInput, Design, Size, Vision
from vla_bench.policy.diffusion.resnet import ResNet

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@functools.cache
def _imagenet(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(3, 1, 1) mean and deviation where they are used; never dropped: recorded passes read them there."""
    with torch.inference_mode(False):  # training uses them too
        mean, std = (torch.tensor(values, device=device, dtype=dtype)[:, None, None] for values in IMAGENET)
    return mean, std


class PictureEncoder(nn.Module):
    """Features of pictures of one camera, or of all.

    Args:
        vision: What it consists of.
        seen: Height and width of the pictures that reach it.
    """

    def __init__(self, vision: Vision, seen: Size) -> None:
        super().__init__()
        self._pool = vision.pool
        self.backbone = ResNet(vision)
        if vision.pool == "keypoints":
            self.pool = nn.Conv2d(vision.channels, vision.keypoints, 1)
        if vision.features is not None:
            self.out = nn.Linear(vision.pooled(seen), vision.features)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, height, width) → (N, features)."""
        x = self.backbone(pictures)
        if self._pool == "keypoints":
            x = expected_places(self.pool(x)).to(x.dtype)
        else:
            x = x.mean((2, 3)) if self._pool == "mean" else x.flatten(1)
        return F.relu(self.out(x)) if hasattr(self, "out") else x


def expected_places(maps: Tensor) -> Tensor:
    """(N, K, H, W) maps → (N, 2 K) mean (x, y) of each under its softmax, in [−1, 1], in float32."""
    _, _, height, width = maps.shape
    weights = maps.float().flatten(2).softmax(-1)
    x = torch.linspace(-1, 1, width, device=maps.device).repeat(height)
    y = torch.linspace(-1, 1, height, device=maps.device).repeat_interleave(width)
    return torch.stack([(weights * x).sum(-1), (weights * y).sum(-1)], -1).flatten(1)


def cut_middle(pictures: Tensor, size: Size) -> Tensor:
    """(…, H, W) → (…, h, w) of the middle; a half of a pixel is rounded to even."""
    top, left = (round((have - want) / 2) for have, want in zip(pictures.shape[-2:], size, strict=True))
    return pictures[..., top : top + size[0], left : left + size[1]]


class ObservationEncoder(nn.Module):
    """Features of single observations."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self._inputs, self._vision = design.inputs, design.vision
        cameras = design.cameras[:1] if design.vision.shared else design.cameras
        self.cameras = nn.ModuleList(PictureEncoder(design.vision, camera.seen) for camera in cameras)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Key → (N, 3, H, W) or (N, size), normalised → (N, features)."""
        seen = iter(self.see(self.prepared(observations)))
        return torch.cat(
            [
                next(seen) if isinstance(each, CameraInput) else observations[each.key]
                for each in self._inputs
            ],
            dim=-1,
        )

    def prepared(self, observations: Mapping[str, Tensor]) -> list[Tensor]:
        """Key → (N, 3, H, W), normalised → what the networks see of each camera."""
        return [
            self._prepared(observations[each.key], each)
            for each in self._inputs
            if isinstance(each, CameraInput)
        ]

    def see(self, pictures: list[Tensor]) -> list[Tensor]:
        """(N, 3, height, width) of each camera → (N, features) of each."""
        if self._vision.shared and pictures:
            return list(self.cameras[0](torch.cat(pictures)).chunk(len(pictures)))
        return [encode(each) for encode, each in zip(self.cameras, pictures, strict=True)]

    def _prepared(self, pictures: Tensor, camera: CameraInput) -> Tensor:
        if camera.resize is not None:
            pictures = F.interpolate(
                pictures, size=camera.resize, mode="bilinear", antialias=True, align_corners=False
            )
        if camera.crop is not None:
            pictures = cut_middle(pictures, camera.crop)
        if self._vision.imagenet:
            mean, std = _imagenet(pictures.device, pictures.dtype)
            pictures = (pictures - mean) / std
        return pictures
