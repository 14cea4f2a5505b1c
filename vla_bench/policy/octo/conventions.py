"""What a card says about a checkpoint: how it was trained to see and to act. Nothing of it is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from vla_bench.config import FileModel, parse
from vla_bench.errors import ConventionError
from vla_bench.policy.arm import from_metres, to_metres
from vla_bench.policy.cards import Card
from vla_bench.policy.octo.scaling import Normalisation
from vla_bench.types import Array


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class View(FileModel):
    """`{ camera = "agentview", crop_area = 0.9 }`: what one of the model's cameras sees.

    Attributes:
        camera: The scene's camera.
        crop_area: Share of the picture that is cut out of the centre; 1 leaves it whole. The original's
            wrapper cuts the first camera, which was trained with random crops.
    """

    camera: str
    crop_area: float = Field(default=1.0, gt=0, le=1)


class Conventions(FileModel):
    """The options of an Octo card. What would be dangerous to forget has no default.

    Attributes:
        cameras: The model's camera → what it sees. Those that are not here are left out altogether, as in the
            original; the checkpoint says which there are.
        image_px: Size at which they are rendered.
        mirrored: Pictures are shown with left and right exchanged, see OpenVLA's card for LIBERO.
        unnorm_key: Data set whose statistics scale the actions: the first that the checkpoint has.
        normalisation: Which statistics are 0 and 1.
        units: `controller`: −1..1 is what the controller takes. `metres`: metres and Euler angles in radians
            (x, y, z, about fixed axes).
        gripper: Which way the last number points; it lies in 0..1.
        control_hz: Frequency of the actions in the training data, and so of the history.
        window: Time steps that are looked at; the checkpoint's own where it is not given.
        first_window: At the start of an episode the first observation stands for those before it, which are
            not looked at (`padded`, as the original), or the window is shorter (`short`, as SimplerEnv).
        state: Whether the robot's state is an input: position, rotation vector and fingers, 8 numbers.
        task: What the model is told: the instruction, a picture of the goal, or both.
        goal: The model's camera → file with a picture of the goal.
        passes: How model and head are computed; the actions are the same. `recorded`: as CUDA graphs, where
            there is CUDA. `plain`: module by module.
        weights: `random` makes up a checkpoint, for measuring speed.
        architecture: Whose sizes a made-up checkpoint has where none is on this machine.
        choice: Of a head with bins: drawn by their probability, or the most likely.
        checkpoint: Folder or `owner/name[@revision]` that the user named instead of the card's.
        tokenizer: Folder or `owner/name[@revision]` with T5's tokenizer.json; else the checkpoint's folder
            has it, or the repository that `config.json` names has been fetched.
        device: `auto` takes a GPU where there is one.
    """

    cameras: dict[str, View] = Field(min_length=1)
    image_px: tuple[int, int] = (256, 256)
    mirrored: bool
    unnorm_key: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = ()
    normalisation: Normalisation
    units: Literal["controller", "metres"]
    gripper: Literal["one_opens", "one_closes"]
    control_hz: float = Field(gt=0, allow_inf_nan=False)
    window: int | None = Field(default=None, gt=0)
    first_window: Literal["padded", "short"] = "padded"
    state: bool = False
    task: Literal["language", "goal", "both"] = "language"
    goal: dict[str, Path] = Field(default_factory=dict)
    choice: Literal["draw", "most_likely"] = "draw"
    passes: Literal["recorded", "plain"] = "recorded"
    weights: Literal["checkpoint", "random"] = "checkpoint"
    architecture: Literal["octo-small", "octo-base", "octo-small-1.5", "octo-base-1.5"] | None = None
    checkpoint: str | None = None
    tokenizer: str | None = None
    device: str = "auto"


def read_conventions(card: Card) -> Conventions:
    """Read the options of a card.

    Raises:
        DataError: One is unknown, missing or of the wrong type.
        ConventionError: They contradict each other.
    """
    conventions = parse(Conventions, card.options, card.source, at="options")
    if (conventions.task == "language") == bool(conventions.goal):
        raise ConventionError(
            f"{card.source}: task = {conventions.task!r} with {len(conventions.goal)} goal pictures; "
            "goal pictures go with task = 'goal' or 'both', and only with them"
        )
    return conventions


def to_commands(actions: Array, conventions: Conventions) -> Array:
    """(T, 7) actions in the checkpoint's convention → (T, 7) commands as in `ActionChunk`.

    The gripper keeps how sure the model is, −1 to 1: the controller takes its sign, and an ensemble of
    several predictions their mean.
    """
    commands = from_metres(actions) if conventions.units == "metres" else np.array(actions, dtype=np.float64)
    closes = 2.0 * commands[:, 6] - 1.0
    commands[:, 6] = -closes if conventions.gripper == "one_opens" else closes
    return np.clip(commands, -1.0, 1.0)


def from_commands(commands: Array, conventions: Conventions) -> Array:
    """(T, 7) commands as in `ActionChunk` → (T, 7) actions in the checkpoint's convention."""
    actions = to_metres(commands) if conventions.units == "metres" else np.array(commands, dtype=np.float64)
    closes = (actions[:, 6] + 1.0) / 2.0
    actions[:, 6] = 1.0 - closes if conventions.gripper == "one_opens" else closes
    return actions
