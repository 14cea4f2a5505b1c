"""What a policy is normalised with: statistics of a data set in the form of `dataset_statistics.json`.

One table a data set, as OpenVLA's checkpoints carry it: `action` with `mask` (False: the gripper, which is
left as it is), `mean`, `std`, `min`, `max`, `q01`, `q99`; `proprio` without mask, LIBERO's 8 of state;
`num_transitions`; `num_trajectories`. All are exact over all frames, none is estimated from a part of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vla_bench.learn.demonstrations import DataConventions
from vla_bench.lerobot.layout import write_json
from vla_bench.policy.arm import STATE_NAMES, rotation_vector
from vla_bench.policy.statistics import FILE
from vla_bench.types import Array


def statistics_of(
    actions: Array, proprio: Mapping[str, Array], episodes: int, conventions: DataConventions
) -> dict[str, Any]:
    """Table of a data set.

    Args:
        actions: (N, A) of all frames.
        proprio: Name → (N, D) of all frames.
        episodes: How many they belong to.
        conventions: Name the numbers of an action.
    """
    table: dict[str, Any] = {"action": summary(actions)}
    table["action"]["mask"] = [name != "gripper" for name in conventions.units]
    if all(name in proprio for name in STATE_NAMES):
        pos, quats, fingers = (proprio[name] for name in STATE_NAMES)
        table["proprio"] = summary(np.hstack([pos, [rotation_vector(quat) for quat in quats], fingers]))
    return table | {"num_transitions": len(actions), "num_trajectories": episodes}


def summary(values: Array) -> dict[str, Any]:
    """(N, D) numbers → mean, std (of all, not of a sample), extremes, 1st and 99th percentile, (D,) each."""
    rows = {
        "mean": values.mean(0), "std": values.std(0), "max": values.max(0), "min": values.min(0),
        "q01": np.quantile(values, 0.01, axis=0), "q99": np.quantile(values, 0.99, axis=0),
    }  # fmt: skip
    return {name: row.tolist() for name, row in rows.items()}


def write_statistics(folder: Path, tables: Mapping[str, Any]) -> Path:
    """Write tables by the name of their data set into `folder`; returns the file."""
    path = folder / FILE
    write_json(path, tables)
    return path
