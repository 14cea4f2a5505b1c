"""A second thing to say while training: where the hand is, and where it will be when the fingers next act.

An action says where to go only from near by: far away it is the largest there is. So the state before the
first action is also read by one linear layer, for the place and heading of the hand now and at the next
step that opens or closes the fingers, which is where the thing is, and for how far the fingers are open,
which says what to do there. The layer is left out of the policy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vla_bench.learn.samples import Samples
from vla_bench.policy.arm import STATE_NAMES

SIZE = 11  # two places (m), two headings (cosine, sine), one opening (m), each in units of its spread


def waypoints(samples: Samples) -> NDArray[np.float32]:
    """(N, 11) of all frames: place now and then, heading now and then, opening of the fingers now."""
    position, turned, fingers = (samples.proprio[name] for name in STATE_NAMES)
    heading = Rotation.from_quat(turned).as_matrix()[:, :2, 0]
    then = next_acts(samples.actions[:, -1], samples.episode)
    opening = np.ptp(fingers, axis=1)[:, None]
    values = np.concatenate([position, position[then], heading, heading[then], opening], axis=1)
    spread = np.maximum(values.std(axis=0), 1e-3)
    return ((values - values.mean(axis=0)) / spread).astype(np.float32)


def next_acts(gripper: NDArray[np.float64], episode: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) commands to the fingers, (N,) episodes → (N,) the next frame of another command, or the last."""
    numbers = np.arange(len(gripper))
    ends = np.append(np.flatnonzero(np.diff(episode)), len(gripper) - 1)
    last = ends[np.searchsorted(ends, numbers)]
    changes = np.flatnonzero(np.diff(gripper) != 0) + 1
    place = np.searchsorted(changes, numbers, side="right")
    following = np.append(changes, len(gripper))[place]
    return np.minimum(following, last)
