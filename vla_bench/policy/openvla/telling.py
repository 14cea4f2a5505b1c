"""What an OpenVLA policy can tell of itself: its units, odd tokens, and which conventions could be others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_bench.policy.base import Choice
from vla_bench.policy.openvla.actions import ActionTokens
from vla_bench.policy.openvla.parts import Parts
from vla_bench.policy.openvla.prompts import TEMPLATES

UNITS = {
    "controller": "those of the controller: 1 is 0.05 m or 0.5 rad; gripper 0..1",
    "metres": "m and rad (Euler angles); gripper 0..1",
}
GRIPPERS = ("one_opens", "one_closes")
# the whole picture, and the share that checkpoints trained with random crops see
CROPS = (1.0, 0.9)


def strangers(tokens: ActionTokens, ids: NDArray[np.integer]) -> tuple[str, ...]:
    """What is wrong with (T, A) token ids: a sentence if some of them are no action tokens."""
    wrong = ids[~tokens.are_actions(ids)]
    if not wrong.size:
        return ()
    low, high = tokens.vocabulary - tokens.bins, tokens.vocabulary - 1
    return (
        f"{wrong.size} of {ids.size} tokens are no action tokens ({low} to {high}): "
        f"{', '.join(map(str, wrong[:7]))}; prompt, tokenizer or checkpoint is not what the card says",
    )


def choices(parts: Parts) -> tuple[Choice, ...]:
    """Return the conventions of a loaded checkpoint that can be exchanged without loading anything."""
    said = parts.conventions
    crops = tuple(area for area in CROPS if area != said.crop_area)
    used = parts.statistics.key(said.unnorm_key)
    keys = tuple(key for key in parts.statistics.tables if key != used and parts.can_use(key))
    return (
        Choice("mirrored", "picture", said.mirrored, (not said.mirrored,), True),
        Choice("crop_area", "crop", said.crop_area, crops, True),
        Choice("prompt", "prompt", said.prompt, tuple(t for t in TEMPLATES if t != said.prompt), True),
        Choice("unnorm_key", "normalisation", used, keys, said.state),
        Choice("units", "action scale", said.units, tuple(u for u in UNITS if u != said.units), False),
        Choice("gripper", "gripper", said.gripper, tuple(g for g in GRIPPERS if g != said.gripper), False),
    )
