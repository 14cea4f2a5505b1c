"""What a precision came to: the modules are looked at, and a layer is run, after loading."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler import profile

from vla_bench.policy.precision import Precision
from vla_bench.policy.quantization.scheme import Scheme, type_name
from vla_bench.types import PrecisionReport

# One row is a step of decoding; many are a prompt with its pictures.
ROWS = (1, 256)
# Products of ordinary matrices: a quantised weight got there by being converted back.
_DENSE = ("aten::mm", "aten::addmm", "aten::bmm", "aten::mkldnn_linear")
# What multiplies by the few bits as they are. bitsandbytes' 4-bit product may also convert back: then an
# ordinary product is found below it.
_LOW_BIT = (
    "aten::_int_mm", "aten::_scaled_mm", "aten::_weight_int4pack_mm", "aten::_weight_int8pack_mm",
    "bitsandbytes::int8_linear_matmul", "bitsandbytes::gemv_4bit", "bitsandbytes::gemm_4bit",
)  # fmt: skip


def describe(modules: Mapping[str, nn.Module], precision: Precision, device: torch.device) -> PrecisionReport:
    """Report what of some modules is quantised and what multiplies it here.

    Args:
        modules: Parts of a policy by name, with their weights; "" for one that needs no name.
        precision: That they were loaded at.
        device: Where they are.
    """
    owners = {".".join(filter(None, (prefix, name))): owner
              for prefix, module in modules.items() for name, owner in module.named_modules()}  # fmt: skip
    plain = {id(p): p for owner in owners.values() for p in owner.parameters(recurse=False)}
    scheme = precision.scheme
    if scheme is None:
        return PrecisionReport(
            precision=precision.name, backend=f"torch {torch.__version__}", device=device_name(device),
            activations=type_name(precision.dtype), compute_setting=type_name(precision.dtype),
            compute=type_name(precision.dtype), parameters=sum(p.numel() for p in plain.values()),
            bytes=sum(p.nbytes for p in plain.values()),
        )  # fmt: skip
    layers: dict[str, Any] = {name: owner for name, owner in owners.items() if scheme.is_converted(owner)}
    kept = {
        name: scheme.refusal(owner) or "kept"
        for name, owner in owners.items()
        if isinstance(owner, nn.Linear) and name not in layers
    }
    for layer in layers.values():
        plain.pop(id(layer.weight), None)
    quantised = sum(_size(layer) for layer in layers.values())
    taken = sum(tensor.nbytes for layer in layers.values() for tensor in scheme.storage(layer))
    kernels, compute = _run_one(list(layers.values()), scheme, precision.dtype, device)
    return PrecisionReport(
        precision=precision.name, backend=scheme.version, device=device_name(device),
        activations=type_name(precision.dtype), weights=scheme.weights, block=scheme.block,
        compute_setting=scheme.compute_setting, compute=compute, settings=scheme.settings,
        layers=len(layers), kept=kept,
        parameters=quantised + sum(p.numel() for p in plain.values()), parameters_quantised=quantised,
        bytes=taken + sum(p.nbytes for p in plain.values()), bytes_quantised=taken,
        kernels=kernels, low_bit_kernels=bool(kernels) and not any(k in _DENSE for k in kernels.values()),
        batch_independent=scheme.batch_independent,
    )  # fmt: skip


def device_name(device: torch.device) -> str:
    """`cpu`, or the device with the name of the GPU."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _run_one(
    layers: list[Any], scheme: Scheme, dtype: torch.dtype, device: torch.device
) -> tuple[dict[str, str], str]:
    """Run the largest layer on inputs of `ROWS` rows: what multiplied it, and what it computed in."""
    if not layers:
        return {}, ""
    layer = max(layers, key=_size)
    found = {}
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler prints its own start and stop
    for rows in ROWS:
        # small: an outlier would be multiplied in full precision
        inputs = torch.linspace(-1, 1, rows * layer.in_features, device=device, dtype=dtype)
        watched = profile(use_kineto=False)
        with torch.inference_mode(), watched:
            layer(inputs.reshape(rows, layer.in_features))
        found[str(rows)] = _product({event.name for event in watched.function_events or ()})
    return found, scheme.computes(layer, dtype)


def _product(operations: set[str]) -> str:
    return next((name for name in (*_DENSE, *_LOW_BIT) if name in operations), "unknown")


def _size(layer: Any) -> int:
    return layer.in_features * layer.out_features
