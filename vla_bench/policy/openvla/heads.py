"""OFT's parts beside the model: action heads, and projectors of the robot's state and of noisy actions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class ScalarProjector(nn.Module):
    """Two layers that embed a vector (the robot's state) or single numbers (noisy actions)."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size, hidden)
        self.fc2 = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) → (..., hidden)."""
        return self.fc2(functional.gelu(self.fc1(x)))


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ffn(x)


class ResidualMlp(nn.Module):
    """The regression network of both continuous heads.

    Args:
        hidden: Width of the language model.
        action_size: Positions of one action, whose hidden states are its input; also its output size.
        blocks: Residual blocks.
    """

    def __init__(self, hidden: int, action_size: int, blocks: int = 2) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(hidden * action_size)
        self.fc1 = nn.Linear(hidden * action_size, hidden)
        self.mlp_resnet_blocks = nn.ModuleList(_ResidualBlock(hidden) for _ in range(blocks))
        self.layer_norm2 = nn.LayerNorm(hidden)
        self.fc2 = nn.Linear(hidden, action_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, hidden × action size) → (B, T, action size)."""
        x = functional.relu(self.fc1(self.layer_norm1(x)))
        for block in self.mlp_resnet_blocks:
            x = block(x)
        return self.fc2(self.layer_norm2(x))


class L1Head(nn.Module):
    """Regresses the actions; trained with an L1 loss."""

    def __init__(self, hidden: int, action_size: int) -> None:
        super().__init__()
        self.model = ResidualMlp(hidden, action_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T × action size, hidden) → (B, T, action size)."""
        return self.model(_by_action(hidden, self.model.fc2.out_features))


class _NoisePredictor(nn.Module):
    def __init__(self, hidden: int, action_size: int) -> None:
        super().__init__()
        self.mlp_resnet = ResidualMlp(hidden, action_size)


class DiffusionHead(nn.Module):
    """Predicts the noise in the actions that stand at the action positions."""

    def __init__(self, hidden: int, action_size: int) -> None:
        super().__init__()
        self.noise_predictor = _NoisePredictor(hidden, action_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T × action size, hidden) → (B, T, action size)."""
        network = self.noise_predictor.mlp_resnet
        return network(_by_action(hidden, network.fc2.out_features))


def _by_action(hidden: Tensor, action_size: int) -> Tensor:
    batch, tokens, width = hidden.shape
    return hidden.reshape(batch, tokens // action_size, action_size * width)


def time_embedding(step: int, width: int) -> Tensor:
    """(width,) sines and cosines of a diffusion step."""
    half = width // 2
    rates = torch.exp(torch.arange(half) * -math.log(10000.0) / (half - 1))
    return torch.cat([(step * rates).sin(), (step * rates).cos()])


class Ddim:
    """Deterministic denoising: squared-cosine schedule, noise prediction, samples clipped to ±1.

    Args:
        trained: Number of steps of the training schedule.
        used: Number of steps taken, evenly spaced from the start of the schedule.
    """

    def __init__(self, trained: int, used: int) -> None:
        def remaining(t: float) -> float:
            return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

        steps = range(trained)
        betas = [min(1 - remaining((i + 1) / trained) / remaining(i / trained), 0.999) for i in steps]
        self.alphas = torch.cumprod(1.0 - torch.tensor(betas, dtype=torch.float32), dim=0)
        self.stride = trained // used
        self.timesteps = [i * self.stride for i in reversed(range(used))]

    def step(self, noise: Tensor, at: int, sample: Tensor) -> Tensor:
        """Take the predicted noise out of `sample` at step `at`: the sample at the next step."""
        before = at - self.stride
        now = self.alphas[at]
        then = self.alphas[before] if before >= 0 else torch.tensor(1.0)
        clean = ((sample - (1 - now) ** 0.5 * noise) / now**0.5).clamp(-1, 1)
        return then**0.5 * clean + (1 - then) ** 0.5 * noise
