"""What a card says about a server: its address, its names for things, and how its actions are meant.

One table serves both sides: a client writes observations and reads actions by it, our server reads the
observations of clients that know nothing of us by it, and writes their actions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.transform import Rotation

from vla_bench.config import FileModel, parse
from vla_bench.errors import ConventionError
from vla_bench.policy.arm import STATE_NAMES, from_metres, robot_state, to_metres
from vla_bench.policy.cards import Card
from vla_bench.policy.remote.wire import WireError
from vla_bench.types import Array, Image, Observation

ARM_ACTION = 7
LONGEST_WAIT_S = 10.0
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:@/\[\]]+):(?P<port>\d{1,5})")


class Conventions(FileModel):
    """The options of a card of a server.

    Attributes:
        protocol: How the server is spoken to.
        address: HOST:PORT, what the user names after the card's name.
        cameras: The protocol's name of a picture → the scene's camera.
        image_px: Size at which they are rendered.
        padded_px: They are resized to this square, bilinearly with black borders; None leaves them.
        mirrored: They are sent with left and right exchanged. LIBERO's renderer puts the bottom row first,
            and turning that by 180° leaves a mirror image.
        state: The protocol's name → first and last + 1 of the robot's eight numbers: position (m), rotation
            vector (rad), two fingers (m). Empty sends none.
        rotation: Angles in [0, 2π] as robosuite has them, or the shortest way round.
        on_request: Name in `cameras` or `state` → what the server asks for it by in its greeting; without
            being asked for it is not sent.
        actions: The protocol's names of the parts of an action, in order, where it has several.
        units: `controller`: −1..1 is what the controller takes. `metres`: metres and Euler angles in radians.
        gripper: How the last number is meant: −1 open and +1 closed (`plus_closes`), the other way round, or
            from 0 to 1, which is told apart at 0.5.
        accepts: Part of an action or observation → the formats that a server may declare for it.
        unnorm_key: Data set whose statistics the server shall use, where it can be told.
        control_hz: Frequency of the actions in the training data.
        timeout_s: How long an answer may take.
        attempts, backoff_s: How often a connection is tried, and the wait after the first; it doubles, up to
            `LONGEST_WAIT_S`.
        token_variable: Environment variable with the server's token; used where it is set.
    """

    protocol: str
    address: str | None = None
    cameras: dict[str, str] = Field(min_length=1)
    image_px: tuple[int, int] = (256, 256)
    padded_px: int | None = Field(default=None, gt=0)
    mirrored: bool
    state: dict[str, tuple[int, int]] = Field(default_factory=dict)
    rotation: Literal["robosuite", "shortest"] = "robosuite"
    on_request: dict[str, str] = Field(default_factory=dict)
    actions: tuple[str, ...] = ()
    units: Literal["controller", "metres"]
    gripper: Literal["plus_closes", "plus_opens", "one_closes", "one_opens"]
    accepts: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    unnorm_key: str | None = None
    control_hz: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    attempts: int = Field(default=5, gt=0)
    backoff_s: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    token_variable: str = "VLA_BENCH_TOKEN"


def read_conventions(card: Card) -> Conventions:
    """Read the options of a card.

    Raises:
        DataError: One is unknown, missing or of the wrong type.
    """
    return parse(Conventions, card.options, card.source, at="options")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str | None, card_name: str) -> Address:
    """HOST:PORT, or [IPv6]:PORT → an address.

    Raises:
        ConventionError: It is none.
    """
    found = _ADDRESS.fullmatch(text or "")
    if found is None or not 0 < int(found["port"]) < 2**16:
        given = "none" if text is None else repr(text)
        raise ConventionError(
            f"policy {card_name!r} needs the address of its server, given: {given}; {card_name}:HOST:PORT, "
            f"for example {card_name}:127.0.0.1:8000"
        )
    return Address(found["host"].strip("[]"), int(found["port"]))


# ── what is sent ───────────────────────────────────────────────────────────────────────────────────────


def pictures(observation: Observation, conventions: Conventions) -> dict[str, Image]:
    """The protocol's name → (H, W, 3) uint8, as the server expects it."""
    shown = {}
    for name, camera in conventions.cameras.items():
        image = observation.images[camera]
        image = image[:, ::-1] if conventions.mirrored else image
        size_px = conventions.padded_px
        shown[name] = np.ascontiguousarray(image if size_px is None else padded(image, size_px))
    return shown


def states(observation: Observation, conventions: Conventions) -> dict[str, Array]:
    """The protocol's name → its share of the robot's eight numbers."""
    if not conventions.state:
        return {}
    numbers = robot_state(observation)
    if conventions.rotation == "shortest":
        numbers[3:6] = Rotation.from_quat(observation.proprio["robot0_eef_quat"]).as_rotvec()
    return {name: numbers[first:last] for name, (first, last) in conventions.state.items()}


def padded(image: Image, size_px: int) -> Image:
    """Resize (H, W, 3) bilinearly into a square, its sides kept in proportion, the rest black."""
    import PIL.Image

    height, width = image.shape[:2]
    if (height, width) == (size_px, size_px):
        return image
    ratio = max(height, width) / size_px
    inside = (int(height / ratio), int(width / ratio))
    resized = PIL.Image.fromarray(image).resize((inside[1], inside[0]), PIL.Image.Resampling.BILINEAR)
    top, left = ((size_px - side) // 2 for side in inside)
    square = np.zeros((size_px, size_px, 3), np.uint8)
    square[top : top + inside[0], left : left + inside[1]] = np.asarray(resized)
    return square


def from_commands(commands: Array, conventions: Conventions) -> Array:
    """(T, 7) commands as in `ActionChunk` → (T, 7) actions as the protocol means them."""
    actions = to_metres(commands) if conventions.units == "metres" else np.array(commands, dtype=np.float64)
    closes = actions[:, 6] if conventions.gripper.endswith("closes") else -actions[:, 6]
    actions[:, 6] = (closes + 1.0) / 2.0 if conventions.gripper.startswith("one") else closes
    return actions


# ── what is received ───────────────────────────────────────────────────────────────────────────────────


def to_commands(actions: Array, conventions: Conventions) -> Array:
    """(T, 7) actions as the protocol means them → (T, 7) commands; what is not finite stays as it is."""
    commands = np.array(actions, dtype=np.float64)
    if not np.isfinite(commands).all():
        return commands  # the policy's failure, which the rollout finds
    commands = from_metres(commands) if conventions.units == "metres" else commands
    plus = np.sign(2.0 * commands[:, 6] - 1.0) if conventions.gripper.startswith("one") else commands[:, 6]
    commands[:, 6] = plus if conventions.gripper.endswith("closes") else -plus
    return np.clip(commands, -1.0, 1.0)


def observation_of(
    images: Mapping[str, Any], state: Mapping[str, Any], instruction: str, conventions: Conventions
) -> Observation:
    """What a client that knows nothing of us sent, by the protocol's names → an observation, at time 0.

    Raises:
        WireError: A picture is none, or the state has other numbers than the protocol says.
    """
    seen: dict[str, Image] = {}
    for name, camera in conventions.cameras.items():
        if name in images:
            image = require_picture(images[name], name)
            seen[camera] = np.ascontiguousarray(image[:, ::-1]) if conventions.mirrored else image
    numbers = _eight(state, conventions)
    if numbers is None:
        return Observation(seen, {}, instruction, 0)
    quaternion = Rotation.from_rotvec(numbers[3:6]).as_quat()
    parts: dict[str, Array] = dict(zip(STATE_NAMES, (numbers[:3], quaternion, numbers[6:]), strict=True))
    return Observation(seen, parts, instruction, 0)


def require_picture(value: Any, name: str) -> NDArray[np.uint8]:
    """Return a picture.

    Raises:
        WireError: It is not (H, W, 3) uint8.
    """
    is_array = isinstance(value, np.ndarray)
    if not is_array or value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3 or not value.size:
        found = f"{value.dtype} of shape {value.shape}" if is_array else type(value).__name__
        raise WireError(f"picture {name!r} is {found}, expected uint8 of shape (height, width, 3)")
    return value


def _eight(state: Mapping[str, Any], conventions: Conventions) -> Array | None:
    """The robot's eight numbers; None where the client sent none of them."""
    if not conventions.state or not set(conventions.state) & set(state):
        return None
    numbers = np.zeros(8)
    for name, (first, last) in conventions.state.items():
        part = np.asarray(state.get(name))
        if part.shape != (last - first,) or part.dtype.kind not in "iuf" or not np.isfinite(part).all():
            raise WireError(
                f"state {name!r} is {part.dtype} of shape {part.shape}, expected {last - first} numbers"
            )
        numbers[first:last] = part
    return numbers
