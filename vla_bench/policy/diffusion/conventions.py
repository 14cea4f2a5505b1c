"""What a card says about a checkpoint: what its inputs are called here, and what its actions mean."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt
from scipy.spatial.transform import Rotation

from vla_bench.config import FileModel, parse
from vla_bench.errors import ConventionError, UnknownNameError
from vla_bench.policy.arm import rotation_vector
from vla_bench.policy.cards import Card
from vla_bench.policy.diffusion.checkpoint import Trained
from vla_bench.policy.diffusion.design import Design
from vla_bench.types import Array, Observation

Gripper = Literal["closes", "unit_opens", "unit_closes"]


class Conventions(FileModel):
    """The options of a card. What would be dangerous to forget has no default.

    Attributes:
        format: `official`: a `.ckpt` file of the original code. `lerobot`: a folder of LeRobot's.
            `vla_bench`: a folder that was trained here.
        cameras: The checkpoint's name of a picture → the simulator's camera.
        proprio: The checkpoint's name of a vector → the parts of `Observation.proprio` that it consists of.
        rotation_vectors: Which of these are quaternions that are handed over as rotation vectors.
        mirrored: Pictures are shown with left and right exchanged, as LIBERO's frames turned by 180° are.
        actions: `delta_pose`: commands as in `ActionChunk`, for each arm 7 numbers. `absolute_rot6d`: for
            each arm position (m), the first two rows of the rotation, and the gripper: 10 numbers.
        gripper: Its last number. `closes`: −1 opens, 1 closes. `unit_opens`: 1 opens, 0 closes.
            `unit_closes`: the reverse.
        control_hz: Frequency of the actions and observations in the training data.
        sampler, steps: How noise is taken out, where not as the checkpoint says.
        passes: How the network is computed; the actions are the same. `recorded`: as CUDA graphs, where
            there is CUDA. `plain`: module by module.
        weights: `random` makes up a checkpoint, for measuring speed.
        design: What a made-up checkpoint is made of where none is on this machine; nothing else uses it.
        text_encoder: Folder or `owner/name[@revision]` of the DistilBERT that the policy was trained with.
        checkpoint: File, folder or `owner/name[@revision]` that the user named instead of the card's.
        device: `auto` takes a GPU where there is one.
    """

    format: Literal["official", "lerobot", "vla_bench"]
    cameras: dict[str, str] = Field(default_factory=dict)
    proprio: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    rotation_vectors: tuple[str, ...] = ()
    mirrored: bool
    actions: Literal["delta_pose", "absolute_rot6d"]
    gripper: Gripper
    control_hz: float = Field(gt=0, allow_inf_nan=False)
    sampler: Literal["ddpm", "ddim"] | None = None
    steps: PositiveInt | None = None
    passes: Literal["recorded", "plain"] = "recorded"
    weights: Literal["checkpoint", "random"] = "checkpoint"
    design: Design | None = None
    text_encoder: str | None = None
    checkpoint: str | None = None
    device: str = "auto"

    @property
    def action_form(self) -> ActionForm:
        """What the actions are."""
        return ACTIONS[self.actions]


@dataclass(frozen=True, slots=True)
class ActionForm:
    """A way to write actions.

    Attributes:
        size: Numbers for each arm.
        convention: What they become, as in `PolicySpec`; 7 numbers for each arm.
        read: (N, size) → (N, 7), the gripper as it is.
    """

    size: int
    convention: str
    read: Callable[[Array], Array]


# sine of the angle between two rows below which float32 does not tell their plane
_APART = 1e-6


def _from_rot6d(actions: Array) -> Array:
    """Position, two rows of a rotation matrix (not quite of length one), gripper → with a rotation vector.

    Two rows of one direction are no rotation: not a number, which is the policy's failure and nobody's error.
    """
    first, second = actions[:, 3:6], actions[:, 6:9]
    with np.errstate(invalid="ignore", divide="ignore"):
        x = first / np.linalg.norm(first, axis=1, keepdims=True)
        y = second - (x * second).sum(1, keepdims=True) * x
        apart = np.linalg.norm(y, axis=1) > _APART * np.linalg.norm(second, axis=1)
        y /= np.linalg.norm(y, axis=1, keepdims=True)
    turns = np.full((len(actions), 3), np.nan)
    if apart.any():
        rows = np.stack([x, y, np.cross(x, y)], axis=1)[apart]
        turns[apart] = Rotation.from_matrix(rows).as_rotvec()
    return np.concatenate([actions[:, :3], turns, actions[:, 9:]], axis=1)


ACTIONS: Mapping[str, ActionForm] = {
    "delta_pose": ActionForm(7, "delta_pose", lambda actions: np.clip(actions, -1.0, 1.0)),
    "absolute_rot6d": ActionForm(10, "absolute_pose", _from_rot6d),
}
_CLOSES: Mapping[Gripper, Callable[[Array], Array]] = {
    "closes": lambda gripper: gripper,
    "unit_opens": lambda gripper: 1.0 - 2.0 * gripper,
    "unit_closes": lambda gripper: 2.0 * gripper - 1.0,
}

_FROM_CLOSES: Mapping[Gripper, Callable[[Array], Array]] = {
    "closes": lambda closes: closes,
    "unit_opens": lambda closes: (1.0 - closes) / 2.0,
    "unit_closes": lambda closes: (1.0 + closes) / 2.0,
}


def to_commands(actions: Array, conventions: Conventions) -> Array:
    """(T, A) actions of the checkpoint → (T, 7 × arms) in the convention that the policy declares."""
    form = conventions.action_form
    each = np.array(actions, dtype=np.float64).reshape(-1, form.size)
    each[:, -1] = np.clip(_CLOSES[conventions.gripper](each[:, -1]), -1.0, 1.0)
    return form.read(each).reshape(len(actions), -1)


def from_commands(commands: Array, conventions: Conventions) -> Array:
    """(T, 7) commands as in `ActionChunk` → (T, 7) `delta_pose` actions of the checkpoint."""
    actions = np.array(commands, dtype=np.float64)
    actions[:, -1] = _FROM_CLOSES[conventions.gripper](actions[:, -1])
    return actions


def vector(observation: Observation, names: Sequence[str], rotation_vectors: Collection[str] = ()) -> Array:
    """Join parts of the proprioception; some are quaternions that become rotation vectors.

    Raises:
        ConventionError: One is not in the observation; says which are.
    """
    if missing := [name for name in names if name not in observation.proprio]:
        found = ", ".join(observation.proprio) or "none"
        raise ConventionError(f"proprioception {missing[0]!r} is not in the observation; it has {found}")
    values = {name: observation.proprio[name] for name in names}
    return np.concatenate([rotation_vector(v) if n in rotation_vectors else v for n, v in values.items()])


def read_conventions(card: Card) -> Conventions:
    """Read the options of a card.

    Raises:
        DataError: One is unknown, missing or of the wrong type.
        ConventionError: They contradict each other or the card.
        UnknownNameError: A rotation is named that is no input.
    """
    conventions = parse(Conventions, card.options, card.source, at="options")
    declared = conventions.action_form.convention
    if card.action_convention != declared:
        raise ConventionError(
            f"{card.source}: action_convention is {card.action_convention!r}, but actions = "
            f"{conventions.actions!r} become {declared!r}"
        )
    if len(set(conventions.cameras.values())) < len(conventions.cameras):
        raise ConventionError(f"{card.source}: two of the checkpoint's pictures are of one camera")
    used = {name for names in conventions.proprio.values() for name in names}
    if strange := set(conventions.rotation_vectors) - used:
        raise UnknownNameError("rotation", min(strange), used, where=f"{card.source}: rotation_vectors")
    return conventions


def agreed(card: Card, conventions: Conventions, trained: Trained) -> Design:
    """Compare a card with its checkpoint, and return the design with what the card replaces.

    Raises:
        ConventionError: They do not agree; all differences are named.
    """
    design, form = trained.design, conventions.action_form
    sides = {
        "cameras": (sorted(conventions.cameras), sorted(each.key for each in design.cameras)),
        "proprio": (sorted(conventions.proprio), sorted(each.key for each in design.numbers)),
        "chunk_predicted": (card.chunk_predicted, design.ahead),
        **{name: (getattr(conventions, name), said) for name, said in trained.says.items()},
    }
    problems = [
        f"{name} is {ours}, the checkpoint's {theirs}"
        for name, (ours, theirs) in sides.items()
        if ours != theirs
    ]
    if design.action_size % form.size:
        problems.append(
            f"actions = {conventions.actions!r} has {form.size} numbers for each arm, the checkpoint's "
            f"actions have {design.action_size}"
        )
    sizes = {camera.size for camera in design.cameras}
    if len(sizes) > 1:
        problems.append(f"all cameras are rendered at one size, the checkpoint has {sorted(sizes)}")
    taken = {**design.diffusion.model_dump(), **_replaced(conventions)}
    if taken["steps"] > taken["trained"]:
        problems.append(f"steps is {taken['steps']}, the checkpoint's schedule has {taken['trained']}")
    if problems:
        raise ConventionError(f"{card.source} does not fit {trained.source}: {'; '.join(problems)}")
    return design.model_copy(update={"diffusion": type(design.diffusion).model_validate(taken)})


def _replaced(conventions: Conventions) -> dict[str, object]:
    given = {"sampler": conventions.sampler, "steps": conventions.steps}
    return {name: value for name, value in given.items() if value is not None}
