"""What a card says about a checkpoint: how it was trained to see and to act. Nothing of it is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from vla_bench.config import FileModel, parse
from vla_bench.errors import ConventionError
from vla_bench.policy.arm import from_metres, to_metres
from vla_bench.policy.cards import Card
from vla_bench.policy.openvla.actions import Bounds
from vla_bench.types import Array, Observation


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Conventions(FileModel):
    """The options of an OpenVLA card. What would be dangerous to forget has no default.

    Attributes:
        prompt: Template of the question.
        cameras: The scene's camera first, then that of the wrist.
        image_px: Size at which they are rendered.
        mirrored: Pictures are shown with left and right exchanged. LIBERO's renderer puts the bottom row
            first, and turning that by 180° leaves a mirror image.
        jpeg: Pictures pass through JPEG, as those in the training data did.
        lanczos: They are resized with TensorFlow's Lanczos-3; otherwise by the checkpoint's processor alone.
        crop_area: Share of the picture that is cut out of the centre; 1 leaves it whole. Belongs to
            checkpoints that were trained with random crops.
        unnorm_key: Data set whose statistics scale the actions: the first that the checkpoint has.
        bounds: Which statistics are ±1.
        units: `controller`: −1..1 is what the controller takes. `metres`: metres and Euler angles in radians
            (x, y, z, about fixed axes).
        gripper: Which way the last number points; it lies in 0..1.
        head: How actions come out: token by token, or all at once (OFT).
        state: Whether the robot's state is an input: position, rotation vector and fingers, 8 numbers.
        film: Whether the instruction modulates the vision towers.
        diffusion_trained, diffusion_steps: Length of the noise schedule, and how many of its steps are taken.
        control_hz: Frequency of the actions in the training data.
        decode: How the passes are computed; the actions are the same. `static`: a cache that stays where it
            is, and CUDA graphs. `speculative`: the same, and the last action drafts the next one. `plain`:
            transformers' modules and a cache that grows. `generate`: transformers' own loop.
        weights: `random` makes up a checkpoint, for measuring speed.
        architecture: Whose sizes a made-up checkpoint has where no folder of the card's is on this machine.
        checkpoint: Folder or `owner/name[@revision]` that the user named instead of the card's.
        base: Folder of the model that an adapter belongs to.
        device: `auto` takes a GPU where there is one.
    """

    prompt: Literal["openvla", "openvla-v01"]
    cameras: tuple[str, ...] = Field(min_length=1)
    image_px: tuple[int, int] = (256, 256)
    mirrored: bool
    jpeg: bool
    lanczos: bool
    crop_area: float = Field(gt=0, le=1)
    unnorm_key: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = ()
    bounds: Bounds = "q99"
    units: Literal["controller", "metres"]
    gripper: Literal["one_opens", "one_closes"]
    head: Literal["tokens", "l1", "diffusion", "discrete"]
    state: bool = False
    film: bool = False
    diffusion_trained: int = Field(default=50, gt=0)
    diffusion_steps: int = Field(default=50, gt=0)
    control_hz: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    decode: Literal["static", "speculative", "plain", "generate"] = "static"
    weights: Literal["checkpoint", "random"] = "checkpoint"
    architecture: Literal["openvla-7b"] | None = None
    checkpoint: str | None = None
    base: str | None = None
    device: str = "auto"

    @property
    def parts(self) -> set[str]:
        """Files that OFT's checkpoints have for these conventions."""
        used = {
            "action_head": self.head in ("l1", "diffusion"),
            "noisy_action_projector": self.head == "diffusion",
            "proprio_projector": self.state,
            "vision_backbone": self.film,
        }
        return {name for name, is_used in used.items() if is_used}


def read_conventions(card: Card) -> Conventions:
    """Read the options of a card.

    Raises:
        DataError: One is unknown, missing or of the wrong type.
        ConventionError: They contradict each other.
    """
    conventions = parse(Conventions, card.options, card.source, at="options")
    if conventions.head == "tokens" and (conventions.parts or len(conventions.cameras) > 1):
        raise ConventionError(
            f"{card.source}: head = 'tokens' decodes from one picture alone; "
            "several cameras, state and film need one of OFT's heads (l1, diffusion, discrete)"
        )
    if card.chunk_predicted != 1 and conventions.head == "tokens":
        raise ConventionError(
            f"{card.source}: head = 'tokens' gives one action, the card says {card.chunk_predicted}"
        )
    if conventions.decode == "speculative" and conventions.head != "tokens":
        raise ConventionError(
            f"{card.source}: decode = 'speculative' drafts tokens one after the other; "
            f"head = {conventions.head!r} gives them all at once"
        )
    if conventions.diffusion_steps > conventions.diffusion_trained:
        raise ConventionError(
            f"{card.source}: diffusion_steps = {conventions.diffusion_steps} of a schedule of "
            f"{conventions.diffusion_trained}"
        )
    return conventions


def to_commands(actions: Array, conventions: Conventions) -> Array:
    """(T, 7) actions in the checkpoint's convention → (T, 7) commands as in `ActionChunk`."""
    commands = from_metres(actions) if conventions.units == "metres" else np.array(actions, dtype=np.float64)
    closes = np.sign(2.0 * commands[:, 6] - 1.0)
    commands[:, 6] = -closes if conventions.gripper == "one_opens" else closes
    return np.clip(commands, -1.0, 1.0)


def from_commands(commands: Array, conventions: Conventions) -> Array:
    """(T, 7) commands as in `ActionChunk` → (T, 7) actions in the checkpoint's convention."""
    actions = to_metres(commands) if conventions.units == "metres" else np.array(commands, dtype=np.float64)
    closes = (np.sign(actions[:, 6]) + 1.0) / 2.0
    actions[:, 6] = 1.0 - closes if conventions.gripper == "one_opens" else closes
    return actions


def pictures(observation: Observation, cameras: Sequence[str]) -> list[Any]:
    """Return the pictures of `cameras`.

    Raises:
        ConventionError: One is not in the observation; says which are.
    """
    if missing := [name for name in cameras if name not in observation.images]:
        found = ", ".join(observation.images) or "none"
        raise ConventionError(f"camera {missing[0]!r} is not in the observation; it has {found}")
    return [observation.images[name] for name in cameras]
