"""The network that predicts noise: a U-Net over time with the official names."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from vla_bench.policy.diffusion.design import Network

# whatever the other blocks have
_LAST_GROUPS = 8


class StepEmbedding(nn.Module):
    """Sines and cosines of a diffusion step."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def forward(self, steps: Tensor) -> Tensor:
        """(B,) → (B, size) float32."""
        half = self._size // 2
        rates = torch.exp(torch.arange(half, device=steps.device) * -(math.log(10000) / (half - 1)))
        angles = steps[:, None] * rates[None]
        return torch.cat([angles.sin(), angles.cos()], -1)


class TimeConv(nn.Conv1d):
    """A convolution over time that keeps the number of instants.

    A processor's convolution reads the weights of a few instants two or three times slower than a matrix
    product does, and reading them is all that an action of one episode takes.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)

    def forward(self, input: Tensor) -> Tensor:
        """(B, inputs, T) → (B, outputs, T)."""
        if input.device.type != "cpu":
            return super().forward(input)
        edge, width = self.kernel_size[0] // 2, self.kernel_size[0]
        # (B, T, inputs × kernel): what each instant sees
        seen = nn.functional.pad(input, (edge, edge)).unfold(2, width, 1).transpose(1, 2).flatten(2)
        return nn.functional.linear(seen, self.weight.flatten(1), self.bias).transpose(1, 2)


class ConvBlock(nn.Module):
    """Convolution over time, normalisation, Mish."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            TimeConv(inputs, outputs, kernel), nn.GroupNorm(groups, outputs), nn.Mish()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) → (B, outputs, T)."""
        return self.block(x)


class ResidualBlock(nn.Module):
    """Two convolutions; between them the condition scales and shifts the channels."""

    def __init__(self, inputs: int, outputs: int, condition: int, network: Network) -> None:
        super().__init__()
        self._scales = network.scales
        self.blocks = nn.ModuleList(
            ConvBlock(n, outputs, network.kernel, network.groups) for n in (inputs, outputs)
        )
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(condition, outputs * (1 + network.scales)))
        self.residual_conv = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, inputs, T) and (B, condition) → (B, outputs, T)."""
        y, film = self.blocks[0](x), self.cond_encoder(condition)[..., None]
        if self._scales:
            scale, shift = film.chunk(2, dim=1)
            y = scale * y + shift  # not 1 + scale
        else:
            y = y + film
        return self.blocks[1](y) + self.residual_conv(x)


class Resampling(nn.Module):
    """A convolution that halves or doubles the number of instants."""

    def __init__(self, conv: nn.Conv1d | nn.ConvTranspose1d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) → (B, C, T / 2) or (B, C, 2 T)."""
        return self.conv(x)


class UNet(nn.Module):
    """Predicts the noise in a sequence of actions.

    Args:
        network: Its sizes.
        action_size: A.
        condition: Numbers that it is conditioned on.
    """

    def __init__(self, network: Network, action_size: int, condition: int) -> None:
        super().__init__()
        size, widths = network.step_size, network.widths
        self.diffusion_step_encoder = nn.Sequential(
            StepEmbedding(size), nn.Linear(size, 4 * size), nn.Mish(), nn.Linear(4 * size, size)
        )

        def residual(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, size + condition, network)

        levels = list(pairwise([action_size, *widths]))
        self.down_modules = nn.ModuleList(
            nn.ModuleList(
                [residual(a, b), residual(b, b), _halving(b) if i < len(widths) - 1 else nn.Identity()]
            )
            for i, (a, b) in enumerate(levels)
        )
        self.mid_modules = nn.ModuleList(residual(widths[-1], widths[-1]) for _ in range(2))
        self.up_modules = nn.ModuleList(
            nn.ModuleList([residual(2 * b, a), residual(a, a), _doubling(a)]) for a, b in reversed(levels[1:])
        )
        self.final_conv = nn.Sequential(
            ConvBlock(widths[0], widths[0], network.kernel, _LAST_GROUPS),
            nn.Conv1d(widths[0], action_size, 1),
        )

    def forward(self, actions: Tensor, steps: Tensor, condition: Tensor) -> Tensor:
        """(B, T, A) noisy actions, (B,) diffusion steps and (B, condition) → (B, T, A)."""
        embed, *encode = self.diffusion_step_encoder
        embedded = embed(steps).to(actions.dtype)
        for layer in encode:
            embedded = layer(embedded)
        condition = torch.cat([embedded, condition], -1)
        x, skips = actions.transpose(1, 2), []
        for first, second, halve in self.down_modules:  # type: ignore[misc]  (lists of three)
            x = second(first(x, condition), condition)
            skips.append(x)
            x = halve(x)
        for block in self.mid_modules:
            x = block(x, condition)
        # the skip of the first level is never used
        for first, second, double in self.up_modules:  # type: ignore[misc]
            x = torch.cat([x, skips.pop()], dim=1)
            x = double(second(first(x, condition), condition))
        return self.final_conv(x).transpose(1, 2)


def _halving(width: int) -> Resampling:
    return Resampling(nn.Conv1d(width, width, 3, 2, 1))


def _doubling(width: int) -> Resampling:
    return Resampling(nn.ConvTranspose1d(width, width, 4, 2, 1))
