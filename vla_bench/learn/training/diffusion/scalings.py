"""How the numbers of a data set are brought to −1 … 1: by their extremes, as the original does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vla_bench.errors import ConventionError, MissingCapabilityError
from vla_bench.policy.diffusion.conventions import Conventions
from vla_bench.policy.diffusion.design import Design
from vla_bench.policy.diffusion.scaling import Affine
from vla_bench.types import Array

# the original's: what moves less is only shifted
SMALLEST_RANGE = 1e-4
# levels in 0..1 become −1..1
PICTURES = Affine(torch.tensor([2.0]), torch.tensor([-1.0]))
# place of the parts in the eight numbers of `dataset_statistics.json`
_STATE = {
    "robot0_eef_pos": slice(0, 3), "robot0_eef_quat": slice(3, 6), "robot0_gripper_qpos": slice(6, 8),
}  # fmt: skip


def scalings_of(table: Mapping[str, Any], design: Design, conventions: Conventions) -> dict[str, Affine]:
    """Scalings by the keys of the inputs, and `action`.

    Args:
        table: Statistics of the data set.
        design: Names the inputs.
        conventions: Say what these consist of.

    Raises:
        ConventionError: The data have no such numbers, or not as many.
        MissingCapabilityError: A quaternion is an input.
    """
    found = {each.key: PICTURES for each in design.cameras}
    for each in design.numbers:
        parts = [_part(table, name, conventions) for name in conventions.proprio[each.key]]
        low, high = (np.concatenate(rows) for rows in zip(*parts, strict=True))
        if len(low) != each.size:
            raise ConventionError(f"input {each.key!r} should have {each.size} numbers, the data {len(low)}")
        found[each.key] = limits(low, high)
    low, high = (np.asarray(table["action"][name]) for name in ("min", "max"))
    if len(low) != design.action_size:
        raise ConventionError(f"the data's actions have {len(low)} numbers, the model's {design.action_size}")
    return {**found, "action": limits(low, high)}


def limits(low: Array, high: Array) -> Affine:
    """`low` … `high` → −1 … 1; what hardly moves becomes 0."""
    still = high - low < SMALLEST_RANGE
    scale = 2.0 / np.where(still, 2.0, high - low)
    offset = np.where(still, -low, -1.0 - scale * low)
    return Affine(torch.from_numpy(scale).float(), torch.from_numpy(offset).float())


def _part(table: Mapping[str, Any], name: str, conventions: Conventions) -> tuple[Array, Array]:
    if name not in _STATE or "proprio" not in table:
        known = ", ".join(_STATE) if "proprio" in table else "none"
        raise ConventionError(f"the data have no statistics of {name!r}; they have {known}")
    if name == "robot0_eef_quat" and name not in conventions.rotation_vectors:
        raise MissingCapabilityError(
            f"{name!r} is trained as a rotation vector: rotation_vectors = [{name!r}] among the options"
        )
    low, high = (np.asarray(table["proprio"][row])[_STATE[name]] for row in ("min", "max"))
    return low, high
