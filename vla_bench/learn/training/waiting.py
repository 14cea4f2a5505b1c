"""Steps of waiting that are not trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_bench.learn.samples import Samples


def waits(samples: Samples, largest: float) -> NDArray[np.bool_]:
    """(N,) frames at which nothing is done but to wait: no motion, and the fingers are told what they were.

    The expert counts time while the fingers close; the pictures of that time are alike, and a policy that
    sees one picture and says what is likeliest would wait for ever. OpenVLA's recipe leaves out what does not
    move at all for the same reason; holding a pose takes small motions.

    Args:
        samples: The data.
        largest: A motion all of whose numbers are smaller counts as none.
    """
    actions, episode = samples.actions, samples.episode
    still = np.abs(actions[:, :-1]).max(axis=1) < largest
    told_again = (actions[1:, -1] == actions[:-1, -1]) & (episode[1:] == episode[:-1])
    return still & np.append(False, told_again)
