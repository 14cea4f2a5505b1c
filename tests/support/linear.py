"""A policy small enough to be fitted in a test: linear in coarse pixels, with conventions as any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vla_bench.policy import images
from vla_bench.policy.base import Choice, Explanation, PolicySpec
from vla_bench.policy.cards import Card
from vla_bench.types import ActionChunk, Array, Image, Observation

SPEC = PolicySpec(cameras=("agentview",), image_px=(64, 64))
COARSE = 8
# normalisation: (low, high) of each number of the arm
STATISTICS: dict[str, tuple[Array, Array]] = {
    "carrots": (np.array([-1.2, -1.1, -1.0, -0.5, -0.5, -0.5]), np.array([1.0, 1.3, 1.1, 0.6, 0.4, 0.5])),
    "slow": (np.full(6, -0.05), np.full(6, 0.06)),
    "joints": (np.full(7, -1.0), np.full(7, 1.0)),
}


@dataclass(frozen=True)
class Conventions:
    """What the card of such a policy says; the defaults are what it is fitted to."""

    mirrored: bool = True
    crop_area: float = 0.7
    unnorm_key: str = "carrots"
    gripper: str = "one_opens"
    factor: float = 1.0


TRUE = Conventions()


class LinearPolicy:
    """Weights (features, 7) from pixels to normalised actions."""

    spec = SPEC

    def __init__(self, weights: Array, said: Conventions = TRUE) -> None:
        self.weights, self.said = weights, said

    def reset(self, instruction: str, seed: int) -> None:
        pass

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        return self.explain(observations).chunk

    def explain(self, observations: Sequence[Observation]) -> Explanation:
        normalised = (features(observations[-1].images["agentview"], self.said) @ self.weights)[None]
        return Explanation(ActionChunk(self.commands(normalised)), normalised=normalised)

    def choices(self) -> tuple[Choice, ...]:
        said = self.said
        return (
            Choice("crop_area", "crop", said.crop_area, (0.7 if said.crop_area == 1.0 else 1.0,), True),
            Choice(
                "unnorm_key",
                "normalisation",
                said.unnorm_key,
                tuple(
                    key for key, (low, _) in STATISTICS.items() if key != said.unnorm_key and len(low) == 6
                ),
                False,
            ),
            Choice("gripper", "gripper", said.gripper, (_other(said.gripper),), False),
            Choice("factor", "action scale", said.factor, tuple({0.1, 1.0, 10.0} - {said.factor}), False),
        )

    def with_option(self, option: str, value: Any) -> LinearPolicy:
        return LinearPolicy(self.weights, replace(self.said, **{option: value}))

    def commands(self, normalised: Array) -> Array:
        low, high = STATISTICS[self.said.unnorm_key]
        arm = self.said.factor * (0.5 * (normalised[:, :6] + 1) * (high - low) + low)
        sign = -1.0 if self.said.gripper == "one_opens" else 1.0
        gripper = sign * np.sign(2 * normalised[:, 6:] - 1)
        return np.clip(np.concatenate([arm, gripper], axis=1), -1, 1)


def _other(gripper: str) -> str:
    return "one_closes" if gripper == "one_opens" else "one_opens"


def features(picture: Image, said: Conventions) -> Array:
    """Mean colour of COARSE × COARSE fields, and 1."""
    if said.mirrored:
        picture = picture[:, ::-1]
    if said.crop_area < 1:
        picture = images.crop_centre(picture, said.crop_area, picture.shape[0])
    side = picture.shape[0] // COARSE
    fields = picture.reshape(COARSE, side, COARSE, side, 3).mean((1, 3))
    return np.append(fields.ravel() / 255 - 0.5, 1.0)


def fit(seen: Sequence[Image], done: Array, *, ridge: float = 0.3) -> Array:
    """Weights that give (N, 7) commands from N pictures under the true conventions."""
    low, high = STATISTICS[TRUE.unnorm_key]
    normalised = np.concatenate([2 * (done[:, :6] - low) / (high - low) - 1, (1 - done[:, 6:]) / 2], axis=1)
    pixels = np.stack([features(picture, TRUE) for picture in seen])
    return pixels.T @ np.linalg.solve(pixels @ pixels.T + ridge * np.eye(len(pixels)), normalised)


def build(card: Card, precision: str) -> LinearPolicy:
    """The policy of a card whose options are the conventions and the file of the weights."""
    options = dict(card.options)
    weights = np.load(Path(options.pop("weights")))
    return LinearPolicy(weights, Conventions(**options))
