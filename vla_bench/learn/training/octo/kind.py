"""Octo as a family that is trained."""

from __future__ import annotations

from pathlib import Path

import torch

from vla_bench.learn.training.config import TrainingConfig
from vla_bench.learn.training.kind import Origin
from vla_bench.learn.training.octo.architecture import OctoArchitecture, new_octo
from vla_bench.learn.training.octo.learner import PLACES, OctoLearner
from vla_bench.policy import hub
from vla_bench.policy.cards import Card
from vla_bench.policy.octo.adapter import FILES
from vla_bench.policy.octo.conventions import Conventions, from_commands, read_conventions
from vla_bench.policy.statistics import ONLY
from vla_bench.types import Array

# the original's for fine-tuning
_RATE = 3e-4


class OctoKind:
    """See `training.kind.Kind`."""

    family, adapter = "octo", "vla_bench.policy.octo.adapter:build"
    conventions, architecture, places = Conventions, OctoArchitecture, PLACES

    def read(self, card: Card) -> Conventions:
        """Read the options of a card."""
        return read_conventions(card)

    def folder(self, card: Card, conventions: Conventions) -> Path:
        """Where the checkpoint of a card is."""
        named = conventions.checkpoint
        return hub.named_folder(named, FILES) if named else hub.card_folder(card, FILES)

    def learning_rate(self, strategy: str) -> float:
        """What a checkpoint is trained further with."""
        return _RATE

    def cameras(self, conventions: Conventions) -> tuple[str, ...]:
        """The scene's cameras that it sees."""
        return tuple(dict.fromkeys(view.camera for view in conventions.cameras.values()))

    def fitted(self, conventions: Conventions, image_px: tuple[int, int], hz: float) -> Conventions:
        """The conventions for data of that size and frequency."""
        return conventions.model_copy(update={"image_px": image_px, "control_hz": hz})

    def physical(self, commands: Array, conventions: Conventions) -> Array:
        """Commands in the units and with the gripper of the policy."""
        return from_commands(commands, conventions)

    def statistics_key(self, conventions: Conventions) -> str:
        """Under which name the policy looks for its statistics."""
        return conventions.unnorm_key[0] if conventions.unnorm_key else ONLY

    def chunk(self, architecture: OctoArchitecture) -> int:
        """Actions from the newest observation on."""
        return architecture.chunk

    def create(self, architecture: OctoArchitecture, origin: Origin[Conventions], seed: int) -> None:
        """Write a new model with initial weights."""
        new_octo(architecture, origin, seed)

    def learner(
        self, origin: Origin[Conventions], config: TrainingConfig, device: torch.device, weights: Path | None
    ) -> OctoLearner:
        """What is trained."""
        return OctoLearner(origin, config, device, weights)
