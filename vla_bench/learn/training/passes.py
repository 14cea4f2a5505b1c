"""In which numbers passes of a training compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def computing(device: torch.device, precision: str) -> Iterator[None]:
    """Let what is computed inside the block be in `bf16` or `fp32`, on weights of float32.

    On the CPU in bfloat16, fused attention is slower than unfused: its way back took 2/5 of a step.
    """
    bf16 = precision == "bf16"
    attention = sdpa_kernel(SDPBackend.MATH) if bf16 and device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16), attention:
        yield
