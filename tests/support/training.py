"""Trainings that take seconds: a model of 168,000 parameters, and demonstrations without a simulator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from support.demonstrations import write_dataset
from vla_bench.learn.training.config import Limits, TrainingConfig
from vla_bench.learn.training.loop import Ended, Watchers, train
from vla_bench.learn.training.openvla import KIND
from vla_bench.learn.training.openvla.architecture import OpenVlaArchitecture
from vla_bench.learn.training.session import Goal, Session, open_session
from vla_bench.policy.openvla.conventions import Conventions

CPU = torch.device("cpu")
# models this small lose more by sharing the work than they gain
torch.set_num_threads(1)
OPTIONS = {
    "prompt": "openvla", "cameras": ["agentview"], "mirrored": False, "jpeg": False, "lanczos": True,
    "crop_area": 0.9, "unnorm_key": "mine", "units": "controller", "gripper": "one_opens", "head": "tokens",
}  # fmt: skip
_TOWER = {"embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
TABLE = {
    "title": "tiny", "family": "openvla", "image_px": 28, "prompt": "openvla", "siglip": _TOWER,
    "dino": {**_TOWER, "reg_tokens": 1},
    "llama": {
        "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 256,
    },
    "options": OPTIONS, "training": {"batch": 4, "learning_rate": 3e-3},
}  # fmt: skip
TINY = OpenVlaArchitecture(name="tiny", **TABLE)


def config(**changes: Any) -> TrainingConfig:
    """A training in float32, so that what should be equal is."""
    return TrainingConfig(**{"batch": 4, "learning_rate": 3e-3, "precision": "fp32", **changes})


def goal(*, base: Path | None = None, chunk: int = 1, **options: Any) -> Goal:
    """A new tiny model, or one that goes on from `base`."""
    conventions = Conventions.model_validate({**OPTIONS, **options})
    return Goal("tiny", KIND, conventions, chunk, base, None if base else TINY)


def opened(data: Path, folder: Path, how: TrainingConfig | None = None, what: Goal | None = None) -> Session:
    """Open a session on the CPU."""
    return open_session(what or goal(), how or config(), data, folder, CPU)


def trained(
    data: Path,
    folder: Path,
    steps: int,
    how: TrainingConfig | None = None,
    what: Goal | None = None,
    watchers: Watchers | None = None,
) -> tuple[Session, Ended]:
    """Open a session and train up to a step."""
    session = opened(data, folder, how, what)
    return session, train(
        session.learner, session.batches, folder, Limits(max_steps=steps), watchers=watchers
    )


def demonstrations(folder: Path, **keys: Any) -> Path:
    """A data set of 3 episodes with 4 frames each."""
    return write_dataset(folder, **keys)


def changed(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> set[str]:
    """Names of the tensors that differ."""
    return {name for name in before if not torch.equal(before[name], after[name])}
