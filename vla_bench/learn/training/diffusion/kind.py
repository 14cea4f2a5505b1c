"""Diffusion Policy as a family that is trained."""

from __future__ import annotations

from pathlib import Path

import torch

from vla_bench.learn.training.config import TrainingConfig
from vla_bench.learn.training.diffusion.architecture import DiffusionArchitecture, new_diffusion
from vla_bench.learn.training.diffusion.learner import PLACES, DiffusionLearner
from vla_bench.learn.training.kind import Origin
from vla_bench.policy.cards import Card
from vla_bench.policy.diffusion.adapter import find
from vla_bench.policy.diffusion.conventions import Conventions, from_commands, read_conventions
from vla_bench.policy.statistics import ONLY
from vla_bench.types import Array

# the original's
_RATE = 1e-4


class DiffusionKind:
    """See `training.kind.Kind`."""

    family, adapter = "diffusion", "vla_bench.policy.diffusion.adapter:build"
    conventions, architecture, places = Conventions, DiffusionArchitecture, PLACES

    def read(self, card: Card) -> Conventions:
        """Read the options of a card."""
        return read_conventions(card)

    def folder(self, card: Card, conventions: Conventions) -> Path:
        """Where the checkpoint of a card is."""
        return find(card, conventions)

    def learning_rate(self, strategy: str) -> float:
        """What a checkpoint is trained further with."""
        return _RATE

    def cameras(self, conventions: Conventions) -> tuple[str, ...]:
        """The scene's cameras that it sees."""
        return tuple(conventions.cameras.values())

    def fitted(self, conventions: Conventions, image_px: tuple[int, int], hz: float) -> Conventions:
        """The conventions for data of that frequency; the size of pictures is the checkpoint's."""
        return conventions.model_copy(update={"control_hz": hz})

    def physical(self, commands: Array, conventions: Conventions) -> Array:
        """Commands with the gripper of the policy."""
        return from_commands(commands, conventions)

    def statistics_key(self, conventions: Conventions) -> str:
        """A checkpoint has the statistics of one data set, which has no name."""
        return ONLY

    def chunk(self, architecture: DiffusionArchitecture) -> int:
        """Actions from the newest observation on."""
        return architecture.design.ahead

    def create(self, architecture: DiffusionArchitecture, origin: Origin[Conventions], seed: int) -> None:
        """Write a new model with initial weights."""
        new_diffusion(architecture, origin, seed)

    def learner(
        self, origin: Origin[Conventions], config: TrainingConfig, device: torch.device, weights: Path | None
    ) -> DiffusionLearner:
        """What is trained."""
        return DiffusionLearner(origin, config, device, weights)
