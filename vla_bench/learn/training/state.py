"""Checkpoints of a training: written as a whole or not at all, and without a pickle in their way."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vla_bench.errors import ConventionError, DataError
from vla_bench.learn.training.kind import Learner
from vla_bench.learn.training.optimiser import Optimisers
from vla_bench.lerobot.layout import write_json
from vla_bench.policy.tensors import read_json, safetensors_of

FOLDER = "checkpoints"
STATE, MOMENTS = "training_state.json", "optimizer.safetensors"
# weights as the optimiser has them, where the policy's loader reads others: their average, say
OWN = "trained.safetensors"


@dataclass
class Progress:
    """How far a training is; order, augmentation and learning rate follow from the step.

    Attributes:
        step: Steps of the optimiser that are done.
        seconds: How long they took.
        accuracies: Of the last steps.
    """

    step: int = 0
    seconds: float = 0.0
    accuracies: list[float] = field(default_factory=list)


def newest(folder: Path) -> Path | None:
    """Return the folder of the newest checkpoint of a training."""
    found = sorted((folder / FOLDER).glob("step-*"))
    return found[-1] if found else None


def save(folder: Path, learner: Learner, optimisers: Optimisers, progress: Progress, keep: int) -> Path:
    """Write a checkpoint; of the older ones, all but `keep` - 1 go."""
    place = folder / FOLDER / f"step-{progress.step:08d}"
    if not place.is_dir():
        draft = place.with_name(f".{place.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        learner.write(draft, progress.step)
        save_file(_moments(learner.trained(), optimisers), draft / MOMENTS)
        write_json(draft / STATE, {**asdict(progress), "training_hash": learner.config.hash})
        draft.rename(place)
    for old in sorted(place.parent.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return place


def read_progress(place: Path, learner_hash: str) -> Progress:
    """Read how far a checkpoint is.

    Raises:
        ConventionError: It is that of another training.
        DataError: It is damaged.
    """
    content = dict(read_json(place / STATE))
    if content.pop("training_hash", None) != learner_hash:
        raise ConventionError(f"{place}: belongs to a training with other settings; take another --out")
    try:
        return Progress(**content)
    except TypeError as error:
        raise DataError(place / STATE, f"is not the state of a training: {error}") from error


def restore(place: Path, learner: Learner, optimisers: Optimisers) -> None:
    """Give the optimisers what they knew when a checkpoint was written.

    Raises:
        DataError: It is damaged, or knows other weights.
    """
    named = learner.trained()
    for key, stored in safetensors_of(place / MOMENTS).items():
        kind, _, name = key.partition("/")
        if name not in named:
            raise DataError(
                place / MOMENTS, f"has {name!r}, which strategy {learner.config.strategy!r} does not train"
            )
        value = stored.read()
        optimisers.state(named[name])[kind] = value if kind == "step" else value.to(named[name].device)


def portable(named: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Tensors as files take them."""
    return {name: value.detach().to("cpu", dtype).contiguous() for name, value in named.items()}


def _moments(named: Mapping[str, nn.Parameter], optimisers: Optimisers) -> dict[str, Tensor]:
    return {
        f"{kind}/{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for name, parameter in named.items()
        for kind, value in optimisers.state(parameter).items()
    }
