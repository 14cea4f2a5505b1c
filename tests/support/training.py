"""Trainings that take seconds: a model of 168,000 parameters, and demonstrations without a simulator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from support.demonstrations import write_dataset
from vla_bench.learn.training.config import Limits, TrainingConfig
from vla_bench.learn.training.kind import kind_of
from vla_bench.learn.training.loop import Ended, Watchers, train
from vla_bench.learn.training.openvla import KIND
from vla_bench.learn.training.openvla.architecture import OpenVlaArchitecture
from vla_bench.learn.training.session import Goal, Session, open_session
from vla_bench.policy.openvla.conventions import Conventions

CPU = torch.device("cpu")
FAMILIES = ("octo", "diffusion")
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


# further families, as tables of files: 60,000 and 90,000 parameters, pictures as the data have them
OCTO_TABLE = {
    "title": "tiny", "family": "octo", "image_px": 32, "window": 2, "chunk": 3, "width": 32, "depth": 2,
    "heads": 2, "hidden": 64, "stem": [32, 32, 32, 32],
    "text": {"width": 16, "heads": 2, "hidden": 32, "depth": 1, "length": 16},
    "head": {"hidden": 64, "blocks": 1, "steps": 8},
    "options": {
        "cameras": {"primary": {"camera": "agentview", "crop_area": 0.9}}, "mirrored": False,
        "unnorm_key": "mine", "normalisation": "normal", "units": "controller", "gripper": "one_opens",
        "control_hz": 1, "state": False,
    },
    "training": {"batch": 4, "learning_rate": 3e-3},
}  # fmt: skip
DIFFUSION_TABLE = {
    "title": "tiny", "family": "diffusion",
    "design": {
        "inputs": [
            {"kind": "camera", "key": "seen", "size": [32, 48], "crop": [28, 42]},
            {"key": "state", "size": 8},
        ],
        "vision": {"width": 16, "keypoints": 4, "features": 8},
        "language": {"encoder": "bytes", "size": 16, "heads": 2, "hidden": 32, "depth": 1, "length": 16},
        "network": {"step_size": 16, "widths": [16, 32], "kernel": 3}, "action_size": 7, "horizon": 4,
        "executed": 2, "diffusion": {"sampler": "ddim", "trained": 20, "steps": 5},
    },
    "options": {
        "format": "vla_bench", "cameras": {"seen": "agentview"}, "mirrored": False, "actions": "delta_pose",
        "proprio": {"state": ["robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]},
        "rotation_vectors": ["robot0_eef_quat"], "gripper": "closes", "control_hz": 1,
    },
    "training": {"batch": 4, "learning_rate": 3e-3},
}  # fmt: skip
TABLES = {"openvla": TABLE, "octo": OCTO_TABLE, "diffusion": DIFFUSION_TABLE}


def goal_of(family: str, **options: Any) -> Goal:
    """A new tiny model of a family."""
    kind = kind_of(family)
    architecture = kind.architecture.model_validate({"name": "tiny", **TABLES[family]})
    conventions = kind.conventions.model_validate({**architecture.options, **options})
    return Goal("tiny", kind, conventions, kind.chunk(architecture), architecture=architecture)


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
