"""What a data set says of its numbers and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from vla_bench.config import FileModel
from vla_bench.policy.arm import METRES_PER_UNIT, RADIANS_PER_UNIT

# What must be done to a stored picture so that it is upright.
Orientation = Literal["upright", "upside_down", "mirrored", "rotated"]

# Names and units of the 7 numbers of a `delta_pose` action, and what 1 means in them.
DELTA_POSE: Mapping[str, float] = {
    "x_m": METRES_PER_UNIT, "y_m": METRES_PER_UNIT, "z_m": METRES_PER_UNIT,
    "rotation_x_rad": RADIANS_PER_UNIT, "rotation_y_rad": RADIANS_PER_UNIT,
    "rotation_z_rad": RADIANS_PER_UNIT, "gripper": 1.0,
}  # fmt: skip


class Declaration(FileModel):
    """What a data set says about itself beyond what its format says (`meta/vla_bench.json`: "conventions").

    Attributes:
        action_convention: As in a card; `delta_pose` is −1 … 1 as in `ActionChunk`.
        cameras: The simulator's name of a camera → the name in the data set.
        pictures: How they are stored.
        state: `libero`: position (m), rotation vector (rad, angle in [0, 2π]) and two finger positions (m).
    """

    action_convention: str
    cameras: dict[str, str]
    pictures: Orientation
    state: Literal["libero"] | None = None
