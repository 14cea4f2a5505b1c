"""What a policy sees and says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vla_bench.types.arrays import Array, Image
from vla_bench.types.world import WorldState


@dataclass(frozen=True, slots=True)
class CameraView:
    """A picture that is asked for: a camera of the scene at a size."""

    name: str
    height_px: int = 256
    width_px: int = 256


@dataclass(frozen=True, slots=True)
class Observation:
    """What was observed at one instant.

    Attributes:
        images: Camera name to (H, W, 3) uint8, top row first, as a person would see it.
        proprio: Name to float64 array.
        instruction: What the policy is told.
        time_ns: Simulated time of the observation.
        state: For privileged policies only.
    """

    images: Mapping[str, Image]
    proprio: Mapping[str, Array]
    instruction: str
    time_ns: int
    state: WorldState | None = None


@dataclass(frozen=True, slots=True)
class ActionChunk:
    """T actions of size A, to be executed in order, and what computing them took.

    Attributes:
        actions: (T, A) float64. For one arm A = 7: Δx Δy Δz (×0.05 m), rotation vector (×0.5 rad), gripper
            (−1 open, +1 closed), each in [−1, 1].
        timings_ms: Milliseconds of `preprocess`, `inference` and `postprocess`, where measured.
    """

    actions: Array
    timings_ms: Mapping[str, float] = field(default_factory=dict)
