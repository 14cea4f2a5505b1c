"""What a policy is shown while it is timed: pictures and numbers of the right kind, the same for everyone."""

from __future__ import annotations

import numpy as np

from vla_bench import seeding
from vla_bench.errors import MissingCapabilityError
from vla_bench.policy.base import PolicySpec
from vla_bench.types import Observation

INSTRUCTION = "put the carrot on the plate"
# numbers of proprioception, by robosuite's names
_OF_A_ROBOT = {"eef_pos": 3, "eef_quat": 4, "gripper_qpos": 2, "joint_pos": 7}
PROPRIO = {f"robot{i}_{name}": size for i in range(2) for name, size in _OF_A_ROBOT.items()}


def histories(spec: PolicySpec, batch: int, scene: int) -> list[list[Observation]]:
    """One history for each of B episodes; `scene` tells one call's from another's.

    Raises:
        MissingCapabilityError: The policy wants something that only a simulation has.
    """
    if spec.privileged:
        raise MissingCapabilityError(
            "the policy sees the state of a simulation, and here is none to be timed with"
        )
    if missing := [name for name in spec.proprio if name not in PROPRIO]:
        raise MissingCapabilityError(
            f"no numbers to show for {', '.join(missing)}; there are {', '.join(PROPRIO)}"
        )
    return [[_observation(spec, scene, row, age) for age in range(spec.history)] for row in range(batch)]


def _observation(spec: PolicySpec, scene: int, row: int, age: int) -> Observation:
    random = seeding.generator("policy", "bench", scene, row, age)
    height, width = spec.image_px
    # a gradient with noise: pictures of noise alone would be the hardest case for JPEG, flat ones the easiest
    slope = np.linspace(0, 190, width)[None, :, None]
    images = {
        name: (slope + random.integers(0, 60, (height, width, 3))).astype(np.uint8) for name in spec.cameras
    }
    proprio = {name: random.uniform(-0.5, 0.5, PROPRIO[name]) for name in spec.proprio}
    return Observation(images, proprio, INSTRUCTION, round(age * spec.history_stride_s * 1e9))
