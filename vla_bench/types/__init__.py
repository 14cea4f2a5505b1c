"""The values that pass between the parts, and the contract of a simulation.

Everything here is data. `sim` and `policy` both depend on this module and never on each other.
Units: lengths in metres, angles in radians, rotations as 3×3 matrices, time in seconds (`_s`) or integer
nanoseconds (`_ns`).
"""

from __future__ import annotations

from vla_bench.types.arrays import Array, Image
from vla_bench.types.observation import ActionChunk, CameraView, Observation
from vla_bench.types.precision import PrecisionReport
from vla_bench.types.simulation import Simulation
from vla_bench.types.tasks import (
    SPLITS,
    TASK_AXES,
    Arm,
    Budget,
    Engine,
    Episode,
    Split,
    StaleRule,
    Task,
    TaskAxis,
)
from vla_bench.types.world import Boxes, Entity, JointState, Predicate, RegionState, WorldState

__all__ = [
    "SPLITS",
    "TASK_AXES",
    "ActionChunk",
    "Arm",
    "Array",
    "Boxes",
    "Budget",
    "CameraView",
    "Engine",
    "Entity",
    "Episode",
    "Image",
    "JointState",
    "Observation",
    "PrecisionReport",
    "Predicate",
    "RegionState",
    "Simulation",
    "Split",
    "StaleRule",
    "Task",
    "TaskAxis",
    "WorldState",
]
