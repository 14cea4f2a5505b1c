"""A training as a folder: what it is, its checkpoints, its curve, and in the end a policy with its card."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vla_bench.errors import ConventionError, MissingCapabilityError
from vla_bench.learn import held_out
from vla_bench.learn.architecture import Architecture
from vla_bench.learn.decoded import Progress
from vla_bench.learn.samples import Samples
from vla_bench.learn.training import state
from vla_bench.learn.training.batches import Batches
from vla_bench.learn.training.config import TrainingConfig
from vla_bench.learn.training.kind import Kind, Learner, Origin
from vla_bench.learn.training.parallel import ALONE, Group
from vla_bench.lerobot.layout import write_json
from vla_bench.policy.cards import Card
from vla_bench.policy.tensors import SINGLE, read_json

TRAINING, POLICY, INITIAL = "training.json", "policy", "initial"


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be trained.

    Attributes:
        name: Of the policy.
        kind: Its family.
        conventions: How it will see and act, as its family's cards say it; the size of pictures and the
            frequency are the data's.
        chunk: Number of actions that it will give at once.
        base: Folder of the checkpoint that it starts from; None for a new model of `architecture`.
        architecture: See `base`.
    """

    name: str
    kind: Kind
    conventions: Any
    chunk: int = 1
    base: Path | None = None
    architecture: Architecture | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A training that can go on.

    Attributes:
        folder: Where everything of it is.
        goal: What is trained.
        learner: With the weights of the newest checkpoint.
        batches: What it learns from.
    """

    folder: Path
    goal: Goal
    learner: Learner
    batches: Batches

    @property
    def trained_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(value.numel() for value in self.learner.trained().values())

    @property
    def parameters(self) -> int:
        """How many numbers the model and its parts have; of packed ones, those that they stand for."""
        found = (p for module in self.learner.modules.values() for p in module.parameters())
        packed = ((p, getattr(p, "quant_state", None)) for p in found)
        return sum(math.prod(p.shape if state is None else state.shape) for p, state in packed)


def open_session(
    goal: Goal,
    config: TrainingConfig,
    data: Path | Sequence[Path],
    folder: Path,
    device: torch.device,
    progress: Progress = lambda done, total: None,
    group: Group = ALONE,
) -> Session:
    """Begin a training in `folder`, or continue the one that is there.

    Args:
        goal: What is trained.
        config: How.
        data: Demonstrations; of several data sets, statistics are those of the first.
        folder: Is made.
        device: Where it is trained.
        progress: Called with (done, all) while pictures are decoded and prepared.
        group: The processes that train together; what the first one makes the others find.

    Raises:
        ConventionError: The folder holds another training, or goal and data do not go together.
        MissingCapabilityError: This kind of policy is not trained here, or the machine lacks something.
        MissingDataError, DataError: Data or checkpoint cannot be read.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) != group.size:  # torchrun's and accelerate's
        raise MissingCapabilityError(
            f"WORLD_SIZE = {os.environ['WORLD_SIZE']}, and a training by {group.size} is begun: several "
            "processes train together if they find each other first (`parallel.assembled`)"
        )
    with group.first_goes_first():
        return _opened(goal, config, data, folder, device, progress)


def _opened(
    goal: Goal,
    config: TrainingConfig,
    data: Path | Sequence[Path],
    folder: Path,
    device: torch.device,
    progress: Progress,
) -> Session:
    kind = goal.kind
    samples = Samples(data, cameras=kind.cameras(goal.conventions), progress=progress)
    conventions = fitted(goal, samples)
    _remember(folder, goal, conventions, config, samples)
    statistics = {kind.statistics_key(conventions): own_statistics(goal.kind, samples, conventions)}
    origin = Origin(goal.base or folder / INITIAL, conventions, goal.chunk, statistics)
    # the weights are written last
    if goal.architecture is not None and goal.base is None and not (origin.base / SINGLE).is_file():
        kind.create(goal.architecture, origin, config.seed)
    learner = kind.learner(origin, config, device, state.newest(folder))
    return Session(folder, goal, learner, Batches(samples, learner, folder, progress))


def fitted(goal: Goal, samples: Samples) -> Any:
    """Return the conventions of a goal with the data's frequency and size of pictures.

    Raises:
        ConventionError: The data's actions are of another kind, or its cameras differ in size.
    """
    held = samples.conventions
    if held.action_convention != "delta_pose":
        raise ConventionError(
            f"{samples}: actions are {held.action_convention!r}; 'delta_pose' is what is trained"
        )
    sizes = set(samples.image_px.values())
    if len(sizes) != 1:
        raise ConventionError(f"{samples}: cameras differ in size: {samples.image_px}")
    return goal.kind.fitted(goal.conventions, sizes.pop(), samples.hz)


def own_statistics(kind: Kind, samples: Samples, conventions: Any) -> dict[str, Any]:
    """Return the statistics of the (first) data set in the units and with the gripper of a policy."""
    return samples.statistics_with(kind.physical(samples.actions, conventions))


def write_policy(session: Session, step: int, precisions: tuple[str, ...]) -> Path:
    """Write the trained policy in bfloat16 with its card; returns the card.

    Args:
        session: Of the training.
        step: That it has come to.
        precisions: Of the card.
    """
    session.learner.write_policy(session.folder / POLICY, step, torch.bfloat16)
    return write_card(session, Path(POLICY), session.folder, precisions)


def write_card(
    session: Session, checkpoint: Path, folder: Path, precisions: tuple[str, ...] = ("fp32",)
) -> Path:
    """Write a card into `folder` for a checkpoint, absolute or relative to it; returns the card."""
    goal, kind = session.goal, session.goal.kind
    card = {
        "title": f"{goal.name}, trained here", "family": kind.family, "adapter": kind.adapter,
        "licence": "that of its base and of its data", "precisions": list(precisions),
        "argument": "checkpoint", "chunk_predicted": goal.chunk,
        "chunk_executed": session.learner.executed,
    }  # fmt: skip
    options = session.learner.card_options(folder / checkpoint)
    path = folder / f"{goal.name}.toml"
    tables = [_lines(card), "[checkpoint]", _lines({"folder": str(checkpoint)}), "[options]", _lines(options)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(tables) + "\n", encoding="utf-8")
    return path


def changed_card(card: Card, chunk: int, changes: Mapping[str, Any]) -> Card:
    """Return a card with another number of predicted actions and with some options changed."""
    return card.model_copy(update={"chunk_predicted": chunk, "options": {**card.options, **changes}})


def _remember(folder: Path, goal: Goal, conventions: Any, config: TrainingConfig, samples: Samples) -> None:
    """Write down what the training is, or compare with what is written.

    Raises:
        ConventionError: The folder holds another one; names what differs.
    """
    facts: dict[str, Any] = {
        "name": goal.name,
        "base": None if goal.base is None else str(goal.base.resolve()),
        "architecture": None if goal.architecture is None else goal.architecture.model_dump(mode="json"),
        "options": conventions.model_dump(mode="json", exclude=set(goal.kind.places)),
        "chunk": goal.chunk,
        "data": {"folder": ", ".join(str(f.resolve()) for f in samples.folders), "digest": samples.digest},
        "config": config.model_dump(mode="json"),
        "hash": config.hash,
    }
    facts = json.loads(json.dumps(facts))
    path = folder / TRAINING
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        # what it was when the training began, to be compared with what the policy is judged on
        seen = {
            "tasks": sorted(set(samples.task_ids)), "held_out": held_out.digest(),
            "held_out_changes": held_out.changes(samples.folders),
        }  # fmt: skip
        write_json(path, {**facts, **seen})
        return
    known = read_json(path)
    differing = [key for key in _flat(facts) if _flat(known).get(key) != _flat(facts)[key] and key != "hash"]
    if differing:
        told = "; ".join(
            f"{key} was {_flat(known).get(key)!r} and is {_flat(facts)[key]!r}" for key in differing
        )
        raise ConventionError(f"{folder}: holds another training ({told}); take another --out")


def _flat(table: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{at}.{key}" if at else key
        found |= _flat(value, name) if isinstance(value, Mapping) else {name: value}
    return found


def _lines(table: Mapping[str, Any]) -> str:
    """TOML of a table, one key a line."""
    return "\n".join(f"{key} = {_toml(value)}" for key, value in table.items())


def _toml(value: Any) -> str:
    """Strings, numbers, booleans and lists as JSON writes them; tables within the line."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {_toml(each)}" for key, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return json.dumps(value)
