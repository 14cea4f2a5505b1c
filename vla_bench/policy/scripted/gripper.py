"""The Panda hand as boxes: what it can hold and where it must not touch.

Everything is in the grip frame: origin between the finger tips, x along the closing direction, z along the
approach. The numbers are measured on the collision meshes.
"""

from __future__ import annotations

import numpy as np

from vla_bench.types import Array

# Half the distance between the pads' faces, with open fingers (m).
HALF_OPENING = 0.0395
# The pads' faces reach over y and z in these ranges (m).
PAD_Y = 0.008
PAD_Z = (-0.0116, 0.0044)
FINGER_BOXES = 6
# The fingers end here, the palm begins here (m along the approach).
TIP_Z = 0.0092
PALM_Z = -0.031


def half_opening(qpos: Array) -> float:
    """Half the distance between the pads' faces (m) for two finger positions."""
    return max(0.0, float(qpos[0] - qpos[1]) / 2.0 - 0.0005)


def boxes(opening: Array | float, reach: float = 0.0) -> tuple[Array, Array]:
    """Lower and upper corners of the hand's boxes, each (…, 8, 3); the first FINGER_BOXES are the fingers.

    Args:
        opening: Half opening (m), any shape.
        reach: How far the hand has come along its approach (m): the volume swept on the way.
    """
    g = np.asarray(opening, dtype=float)
    zero = np.zeros_like(g)
    # From the tip upwards a finger becomes thicker (x), narrower slices of it in order.
    slices = ((0.016, 0.0088, (-0.006, TIP_Z)), (0.0235, 0.0105, (-0.02, -0.006)))
    slices += ((0.0265, 0.0105, (-0.0445 - reach, -0.02)),)
    spans = [((g, g + thick), y, z) for thick, y, z in slices]
    spans += [((-g - thick, -g), y, z) for thick, y, z in slices]
    spans += [
        ((zero - 0.104, zero + 0.104), 0.021, (-0.077 - reach, PALM_Z)),
        ((zero - 0.104, zero + 0.104), 0.032, (-0.20 - reach, -0.066)),
    ]
    low = np.stack([np.stack([x[0], zero - y, zero + z[0]], axis=-1) for x, y, z in spans], axis=-2)
    high = np.stack([np.stack([x[1], zero + y, zero + z[1]], axis=-1) for x, y, z in spans], axis=-2)
    return low, high


def held(points: Array, qpos: Array, slack: float = 0.004) -> bool:
    """Whether both pads touch a body.

    Args:
        points: (N, 3) points of the body in the grip frame.
        qpos: Finger positions.
        slack: How far (m) the nearest point may be from a pad's face.
    """
    g = half_opening(qpos)
    near = (
        (np.abs(points[:, 1]) < PAD_Y + 0.002)
        & (points[:, 2] > PAD_Z[0] - 0.003)
        & (points[:, 2] < TIP_Z)
        & (np.abs(points[:, 0]) < g + slack)
    )
    if g < 0.0005 or not near.any():
        return False
    x = points[near, 0]
    return bool(x.max() > g - slack and x.min() < -g + slack)
