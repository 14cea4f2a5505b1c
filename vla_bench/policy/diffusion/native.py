"""Our own folders: `design.json` and `model.safetensors`, where the scaling is beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from vla_bench.config import parse
from vla_bench.errors import ConventionError, DataError
from vla_bench.policy.diffusion.checkpoint import Trained, renamed
from vla_bench.policy.diffusion.design import Design
from vla_bench.policy.diffusion.scaling import Affine
from vla_bench.policy.tensors import read_json, safetensors_of

DESIGN, WEIGHTS = "design.json", "model.safetensors"
_SCALING = "scaling."


def save(
    folder: Path, design: Design, weights: Mapping[str, torch.Tensor], scalings: Mapping[str, Affine]
) -> None:
    """Write a policy that was trained here.

    Args:
        folder: Made where it is missing.
        design: What it is made of.
        weights: State of `DiffusionNet`, or the moving average of it.
        scalings: By the keys of the inputs, and `action`.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESIGN).write_text(design.model_dump_json(indent=1) + "\n", encoding="utf-8")
    beside = {
        f"{_SCALING}{key}.{part}": getattr(scaling, part).float().contiguous()
        for key, scaling in scalings.items()
        for part in ("scale", "offset")
    }
    save_file({**{name: value.contiguous() for name, value in weights.items()}, **beside}, folder / WEIGHTS)


def read_native(folder: Path) -> Trained:
    """Read a folder that `save` wrote, without its weights' numbers.

    Raises:
        MissingDataError: A file is not there.
        DataError: A file cannot be used.
        ConventionError: Its parts do not fit together.
    """
    table = read_json(folder / DESIGN)
    if not isinstance(table, dict):
        raise DataError(folder / DESIGN, f"is a {type(table).__name__}, expected a table")
    design = parse(Design, table, folder / DESIGN)
    stored = safetensors_of(folder / WEIGHTS)
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in stored.items():
        if name.startswith(_SCALING):
            key, _, part = name.removeprefix(_SCALING).rpartition(".")
            found.setdefault(key, {})[part] = tensor.read()
    if broken := [key for key, each in found.items() if set(each) != {"scale", "offset"}]:
        raise ConventionError(f"{folder}: the normalisation of {broken[0]!r} lacks its scale or its offset")
    scalings = {key: Affine(each["scale"], each["offset"]) for key, each in found.items()}
    weights = renamed(stored, lambda name: None if name.startswith(_SCALING) else name)
    return Trained(folder, design, weights, scalings, {})
