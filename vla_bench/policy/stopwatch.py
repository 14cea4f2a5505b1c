"""Where the time of an inference goes, phase by phase."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Milliseconds of the phases of one inference.

    A mark waits for the device, because work on a GPU is only begun when a call returns. Phases are
    `preprocess`, `inference`, `postprocess`; `inference.vision` is a part of `inference` and counted in both.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.restart()

    def restart(self) -> None:
        """Forget what was measured; the next phase begins now."""
        self.timings_ms: dict[str, float] = {}
        self._last = self._now()

    def mark(self, phase: str) -> None:
        """What happened since the last mark was `phase`; the same phase may come again and adds up."""
        now = self._now()
        whole, _, part = phase.partition(".")
        for name in (whole, phase) if part else (whole,):
            self.timings_ms[name] = self.timings_ms.get(name, 0.0) + 1e3 * (now - self._last)
        self._last = now

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
