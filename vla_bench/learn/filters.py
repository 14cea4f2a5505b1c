"""What OpenVLA's recipe leaves out of LIBERO's demonstrations before training on them.

Steps that do nothing, since a policy that imitates them stands still for ever; and demonstrations that do
not succeed when they are done again (openvla/openvla, experiments/robot/libero/regenerate_libero_dataset.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_bench.types import Array

# Largest norm of a motion (units of the action) that counts as none.
STILL = 1e-4


def moving(actions: Array) -> NDArray[np.bool_]:
    """(T,) which of (T, A) actions do something: move, or change what the gripper, the last number, does.

    What the gripper does is compared with the last action that is kept; before the first it does nothing.
    """
    kept = np.linalg.norm(actions[:, :-1], axis=1) >= STILL
    gripper: float | None = None
    for index, action in enumerate(actions):
        if gripper is not None and action[-1] != gripper:
            kept[index] = True
        if kept[index]:
            gripper = float(action[-1])
    return kept
