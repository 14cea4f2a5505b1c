"""Recordings of Diffusion Policy, and small checkpoints in the formats of the originals."""

from __future__ import annotations

import json
import os
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from support.goldens import goldens
from vla_bench.policy.tensors import StoredTensor

# models this small lose more by sharing the work than they gain
torch.set_num_threads(1)

# entries of a state that are no weights and that the recordings' rule does not make
_CONSTRUCTED = (
    "normalizer.", "_dummy_variable", "mask_generator", "pos_x", "pos_y", "temperature", "pos_grid",
    "num_batches_tracked",
)  # fmt: skip


def recorded(pattern: str) -> list:
    """One pytest parameter a file of the recordings; a single skipped (in CI: failing) one without them."""
    folder = goldens("diffusion_policy")
    found = sorted(folder.glob(pattern)) if folder else []
    if not found and os.environ.get("CI") != "true":
        reason = f"no recordings diffusion_policy/{pattern}: set VLA_BENCH_GOLDENS to a folder with them"
        return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
    return [
        pytest.param(p, id=str(p.relative_to(folder)) if p and folder else "none") for p in found or [None]
    ]


def fair(folder: Path, check: str) -> float:
    """The largest difference that the recordings' own table allows for `check`; 0 where it says exact."""
    bound = json.loads((folder / "tolerances.json").read_text())["checks"][check]["fair"]
    return 0.0 if bound == "exact" else bound


def by_rule(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weights of the recordings: from the name alone."""
    n = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        made = 1 + np.float32(0.1) * np.abs(n)
    elif len(shape) >= 2:
        made = n / np.float32(np.sqrt(np.prod(shape[1:])))
    elif name.endswith("weight"):
        made = 1 + np.float32(0.1) * n
    else:
        made = np.float32(0.05) * n
    return torch.from_numpy(np.asarray(made, np.float32))


def stored(path: Path, name: str, shape: tuple[int, ...], value: torch.Tensor | None = None) -> StoredTensor:
    """A tensor as a reader would return it; without a value, by the rule."""
    if value is None:
        value = torch.tensor(0) if name.endswith("num_batches_tracked") else by_rule(name, shape)
    return StoredTensor(path, tuple(shape), value.dtype, partial(value.clone))


def stored_state(
    path: Path, shapes: dict[str, list[int]], values: dict[str, np.ndarray]
) -> dict[str, StoredTensor]:
    """A whole state by the rule of the recordings, with what is no weight taken from `values`."""
    return {
        name: stored(path, name, tuple(shape), torch.from_numpy(values[name]) if name in values else None)
        for name, shape in shapes.items()
        if name in values or not any(part in name for part in _CONSTRUCTED[:-1])
    }
