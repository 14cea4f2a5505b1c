"""OpenVLA as a family that is trained."""

from __future__ import annotations

from pathlib import Path

import torch

from vla_bench.learn.training.config import TrainingConfig
from vla_bench.learn.training.kind import Origin
from vla_bench.learn.training.openvla.architecture import OpenVlaArchitecture
from vla_bench.learn.training.openvla.learner import PLACES, OpenVlaLearner
from vla_bench.learn.training.openvla.new_model import new_openvla
from vla_bench.policy import hub
from vla_bench.policy.cards import Card
from vla_bench.policy.openvla.conventions import Conventions, from_commands, read_conventions
from vla_bench.policy.statistics import ONLY
from vla_bench.types import Array

# OpenVLA's: 5e-4 for LoRA, 2e-5 for everything
_RATES = {"lora": 5e-4, "qlora": 5e-4}
_RATE = 2e-5


class OpenVlaKind:
    """See `training.kind.Kind`."""

    family, adapter = "openvla", "vla_bench.policy.openvla.adapter:build"
    conventions, architecture, places = Conventions, OpenVlaArchitecture, PLACES

    def read(self, card: Card) -> Conventions:
        """Read the options of a card."""
        return read_conventions(card)

    def folder(self, card: Card, conventions: Conventions) -> Path:
        """Where the checkpoint of a card is."""
        named = conventions.checkpoint
        return hub.named_folder(named) if named else hub.card_folder(card)

    def learning_rate(self, strategy: str) -> float:
        """What a checkpoint is trained further with."""
        return _RATES.get(strategy, _RATE)

    def cameras(self, conventions: Conventions) -> tuple[str, ...]:
        """The scene's cameras that it sees."""
        return conventions.cameras

    def fitted(self, conventions: Conventions, image_px: tuple[int, int], hz: float) -> Conventions:
        """The conventions for data of that size and frequency."""
        return conventions.model_copy(update={"image_px": image_px, "control_hz": hz})

    def physical(self, commands: Array, conventions: Conventions) -> Array:
        """Commands in the units and with the gripper of the policy."""
        return from_commands(commands, conventions)

    def statistics_key(self, conventions: Conventions) -> str:
        """Under which name the policy looks for its statistics."""
        return conventions.unnorm_key[0] if conventions.unnorm_key else ONLY

    def chunk(self, architecture: OpenVlaArchitecture) -> int:
        """Number of actions that a new model gives at once."""
        return architecture.chunk

    def create(self, architecture: OpenVlaArchitecture, origin: Origin[Conventions], seed: int) -> None:
        """Write a new model with initial weights."""
        new_openvla(architecture, origin.base, origin.statistics, seed)

    def learner(
        self, origin: Origin[Conventions], config: TrainingConfig, device: torch.device, weights: Path | None
    ) -> OpenVlaLearner:
        """What is trained."""
        return OpenVlaLearner(origin, config, device, weights)
