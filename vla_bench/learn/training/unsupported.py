"""What only some families can be trained with."""

from __future__ import annotations

from vla_bench.errors import MissingCapabilityError
from vla_bench.learn.training.config import TrainingConfig


def require_plain(config: TrainingConfig, family: str) -> None:
    """See that a training asks for nothing that the family's does not have.

    Raises:
        MissingCapabilityError: It does; names all of it.
    """
    usual = TrainingConfig(learning_rate=config.learning_rate)
    names = ("strategy", "checkpointing", "foresight", "label_spread")
    if strange := [name for name in names if getattr(config, name) != getattr(usual, name)]:
        asked = ", ".join(f"{name} = {getattr(config, name)!r}" for name in strange)
        known = ", ".join(f"{name} = {getattr(usual, name)!r}" for name in strange)
        raise MissingCapabilityError(f"{asked}: not implemented for {family}; {known} is")
