"""The best that this machine does, measured: memory traffic and matrix products."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch

from vla_bench import seeding
from vla_bench.policy.profile import Machine

# Large enough to leave every cache, and to keep every core busy.
COPY_BYTES = {"cuda": 2 << 30, "cpu": 128 << 20}
PRODUCT_SIDE = {"cuda": 8192, "cpu": 1024}
BATCHES, CALLS = 5, {"cuda": 10, "cpu": 2}


@functools.cache
def measured(device_name: str, dtype_name: str) -> Machine:
    """Measure a device, once: the best of five turns, each of several calls, after one to warm up."""
    device = torch.device(device_name)
    return Machine(
        name_of(device), dtype_name, _copy_rate(device), _product_rate(device, getattr(torch, dtype_name))
    )


def _copy_rate(device: torch.device) -> float:
    count = COPY_BYTES[device.type]
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / _best_s(lambda: target.copy_(source), device)


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    side = PRODUCT_SIDE[device.type]
    # not zeros: a GPU computes those with less power, and so faster
    generator = torch.Generator(device)
    generator.manual_seed(int(seeding.generator("policy", "bench", "product").integers(1 << 31)))
    matrix = torch.randn(side, side, device=device, generator=generator).to(dtype)
    product = torch.empty_like(matrix)
    return 2 * side**3 / _best_s(lambda: torch.mm(matrix, matrix, out=product), device)


def name_of(device: torch.device) -> str:
    """`cpu with 2 threads`, or the name of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} with {torch.get_num_threads()} threads"


@torch.inference_mode()
def _best_s(call: Callable[[], object], device: torch.device) -> float:
    """Shortest time of a call, in turns of several."""
    turns, calls = [], CALLS[device.type]
    for _ in range(BATCHES + 1):
        _wait(device)
        began = time.perf_counter()
        for _ in range(calls):
            call()
        _wait(device)
        turns.append((time.perf_counter() - began) / calls)
    return min(turns[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
