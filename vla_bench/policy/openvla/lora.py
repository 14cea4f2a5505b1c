"""Low-rank adapters (PEFT's layout), merged while the weights are read: W + scale · B·A."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vla_bench.errors import DataError, MissingCapabilityError, MissingDataError
from vla_bench.policy.tensors import Stored, StoredTensor, read_json, safetensors_of

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# what would change the merged weights in another way
_NOT_IMPLEMENTED = (
    "use_dora",
    "alpha_pattern",
    "modules_to_save",
    "fan_in_fan_out",
    "alora_invocation_tokens",
)


def adapter_scale(folder: Path) -> float:
    """Return the factor of B·A that `adapter_config.json` states.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is no LoRA adapter, or lacks its rank.
        MissingCapabilityError: It uses a variant that is not implemented.
    """
    path = folder / CONFIG
    config: dict[str, Any] = read_json(path)
    if config.get("peft_type") != "LORA":
        raise DataError(path, f"peft_type: expected 'LORA', found {config.get('peft_type')!r}")
    if used := [key for key in _NOT_IMPLEMENTED if config.get(key)]:
        raise MissingCapabilityError(f"{path}: {used[0]} = {config[used[0]]!r} is not implemented")
    if not config.get("r") or "lora_alpha" not in config:
        raise DataError(path, f"expected r and lora_alpha, found {', '.join(config)}")
    rank = config["r"]
    return config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)


def with_adapter(base: Stored, folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors of `base` with the adapter of `folder` merged into them.

    Raises:
        MissingDataError: The adapter's weights are not there.
        DataError: They are a pickle, or do not fit the base.
    """
    scale = adapter_scale(folder)
    if not (folder / WEIGHTS).is_file():
        if (folder / "adapter_model.bin").is_file():
            raise DataError(
                folder / "adapter_model.bin", f"is a pickle, which can run code: refused; expected {WEIGHTS}"
            )
        raise MissingDataError(f"{folder / WEIGHTS}: missing beside {CONFIG}")
    stored = safetensors_of(folder / WEIGHTS)
    named = {name.removeprefix("base_model.model."): tensor for name, tensor in stored.items()}
    return merge({**base, **named}, scale)


def merge(stored: Stored, scale: float) -> dict[str, StoredTensor]:
    """Replace every triple (weight, lora_A, lora_B) by the merged weight.

    Args:
        stored: Names as PEFT writes them: `<layer>.lora_A[.default].weight`, and the weight itself as
            `<layer>.weight` or `<layer>.base_layer.weight`.
        scale: Factor of B·A.

    Raises:
        DataError: A half of an adapter is missing, there is no weight for it, or shapes do not fit.
    """
    plain = {name.replace(".default.", "."): tensor for name, tensor in stored.items()}
    merged = {n.replace(".base_layer.", "."): t for n, t in plain.items() if ".lora_" not in n}
    for name, down in plain.items():
        if ".lora_" not in name:
            continue
        layer, _, half = name.partition(".lora_")
        target, other = f"{layer}.weight", f"{layer}.lora_{'B' if half == 'A.weight' else 'A'}.weight"
        if half not in ("A.weight", "B.weight") or other not in plain:
            raise DataError(down.file, f"adapter tensor {name!r} has no counterpart {other!r}")
        if target not in merged:
            raise DataError(down.file, f"adapter for {target!r}, which the base model does not have")
        if half == "A.weight":
            merged[target] = _merged(target, merged[target], down, plain[other], scale)
    return merged


def _merged(
    name: str, weight: StoredTensor, down: StoredTensor, up: StoredTensor, scale: float
) -> StoredTensor:
    """A convolution's adapter is a convolution to `rank` channels and one of size 1: the same product."""
    rank, fits = down.shape[0], down.shape[1:] == weight.shape[1:]
    if not fits or up.shape[:2] != (weight.shape[0], rank):
        raise DataError(
            down.file, f"adapter of {name!r}: {up.shape} · {down.shape} does not fit {weight.shape}"
        )
    return StoredTensor(down.file, weight.shape, weight.dtype, partial(_sum, weight, down, up, scale))


def _sum(weight: StoredTensor, down: StoredTensor, up: StoredTensor, scale: float) -> torch.Tensor:
    """In float32; rounded once, when the result is stored."""
    delta = up.read().float().flatten(1) @ down.read().float().flatten(1)
    return weight.read().float() + scale * delta.reshape(weight.shape)
