"""One call of a policy, timed; and what many such calls come to."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np

from vla_bench.policy.base import Policy, act_batch
from vla_bench.policy.profile import Part
from vla_bench.types import ActionChunk, Observation

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

Latencies = list[dict[str, float]]


def timed(
    policy: Policy, given: list[list[Observation]], device: str
) -> tuple[list[ActionChunk], dict[str, float]]:
    """Act once, from observations that are there to commands that are there."""
    act: Callable[[], list[ActionChunk]] = (
        (lambda: [policy.act(given[0])])
        if len(given) == 1
        else (lambda: act_batch(policy, given, range(len(given))))
    )
    wait(device)
    began = time.perf_counter()
    chunks = act()
    wait(device)
    total_ms = 1e3 * (time.perf_counter() - began)
    return chunks, {**chunks[0].timings_ms, "total": total_ms}


def timed_parts(parts: Sequence[Part], device: str) -> dict[str, float]:
    """Run every part as often as an inference does: milliseconds by phase, and `total`, their sum."""
    spent: dict[str, float] = {}
    for part in parts:
        wait(device)
        began = time.perf_counter()
        for _ in range(part.times):
            part.call()
        wait(device)
        spent[part.phase] = spent.get(part.phase, 0.0) + 1e3 * (time.perf_counter() - began)
    return {**spent, "total": sum(spent.values())}


def quantiles(calls: Latencies) -> dict[str, dict[str, float]]:
    """Phase → quantiles over the calls, in milliseconds."""
    names = list(calls[0]) if calls else []
    return {
        name: {q: float(np.quantile([call[name] for call in calls], at)) for q, at in QUANTILES.items()}
        for name in names
    }


def speedup(calls: Mapping[str, Latencies]) -> dict[str, float]:
    """Median over rounds of plain / ours; both calls of a round came one after the other."""
    if "plain" not in calls:
        return {}
    pairs = list(zip(calls["policy"], calls["plain"], strict=True))
    names = [name for name in ("total", "inference") if all(name in ours and name in p for ours, p in pairs)]
    return {name: median(plain[name] / ours[name] for ours, plain in pairs) for name in names}


def whole_to_parts(calls: Mapping[str, Latencies]) -> float | None:
    """Median over rounds of the whole inference / the sum of its parts; None without parts."""
    if "parts" not in calls:
        return None
    pairs = zip(calls["policy"], calls["parts"], strict=True)
    return median(whole["total"] / parts["total"] for whole, parts in pairs)


def agreement(ours: Sequence[ActionChunk], others: Sequence[ActionChunk]) -> float:
    """Share of the numbers of all actions in which two answers are equal."""
    first, second = (np.stack([chunk.actions for chunk in each]) for each in (ours, others))
    return float(np.isclose(first, second, rtol=0, atol=1e-9).mean())


def is_cuda(device: str) -> bool:
    """Whether a device of torch is an NVIDIA GPU."""
    return device.partition(":")[0] == "cuda"


def wait(device: str) -> None:
    """Wait until a device has done what it was given."""
    if is_cuda(device):
        import torch

        torch.cuda.synchronize(device)


def forget_peak(device: str) -> None:
    """Begin to watch the memory of a device anew."""
    if is_cuda(device):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def read_peak_gb(device: str) -> float | None:
    """Most memory of a device since `forget_peak`; None on a processor, where it is not measured."""
    if not is_cuda(device):
        return None
    import torch

    return torch.cuda.max_memory_allocated(device) / 1e9


def out_of_memory(device: str) -> tuple[type[Exception], ...]:
    """What a device raises when its memory is full."""
    if not is_cuda(device):
        return ()
    import torch

    return (torch.OutOfMemoryError,)


def free() -> None:
    """Give back what a policy held, before the next one is loaded."""
    gc.collect()
    if torch := sys.modules.get("torch"):
        torch.cuda.empty_cache()
