"""How busy processors and GPUs are, asked in a thread of its own: no episode waits for an answer."""

from __future__ import annotations

import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PERIOD_S = 3.0
_SMI_S = 5.0
_QUERY = ("--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: share of the time that something ran on it, in [0, 1], and its memory in MiB."""

    busy: float
    used_mib: float
    total_mib: float

    def __str__(self) -> str:
        return f"GPU {self.busy:.0%} {self.used_mib / 1024:.0f}/{self.total_mib / 1024:.0f} GiB"


@dataclass(frozen=True, slots=True)
class Usage:
    """Of the whole machine; what it does not tell is absent.

    Attributes:
        cpu: Share of all processors' time that was not idle since the last sample, in [0, 1].
        gpus: Those that the run may use.
    """

    cpu: float | None = None
    gpus: tuple[Gpu, ...] = ()

    def __str__(self) -> str:
        cpu = [] if self.cpu is None else [f"CPU {self.cpu:.0%}"]
        return ", ".join([*cpu, *map(str, self.gpus)])


class Sampler:
    """Asks again and again while it is open; a context.

    Args:
        gpus: As `CUDA_VISIBLE_DEVICES` names them; without any, none are asked.

    Attributes:
        latest: The last answer.
    """

    def __init__(self, gpus: tuple[str, ...] = ()) -> None:
        self.latest = Usage()
        self._gpus, self._times = gpus, processor_times()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join(_SMI_S)

    def _run(self) -> None:
        while not self._closed.wait(PERIOD_S):
            before, self._times = self._times, processor_times()
            gpus = ask_gpus(self._gpus)
            if not gpus:  # what does not answer once is not asked again
                self._gpus = ()
            self.latest = Usage(_share(before, self._times), gpus)


def processor_times() -> tuple[int, int] | None:
    """Busy and all ticks of the processors since the machine started; None where it does not say."""
    try:
        first = Path("/proc/stat").read_text().partition("\n")[0].split()
    except OSError:
        return None
    # user nice system idle iowait irq softirq steal; guests, which follow, are in user already
    ticks = [int(number) for number in first[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return max(0.0, min(1.0, (after[0] - before[0]) / (after[1] - before[1])))


def ask_gpus(names: tuple[str, ...]) -> tuple[Gpu, ...]:
    """What `nvidia-smi` says of GPUs; empty without names, without that program, or if it fails."""
    program = shutil.which("nvidia-smi") if names else None
    if program is None:
        return ()
    try:
        answer = subprocess.run(
            [program, f"--id={','.join(names)}", *_QUERY], capture_output=True, text=True, timeout=_SMI_S,
            stdin=subprocess.DEVNULL, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    return read_gpus(answer.stdout)


def read_gpus(text: str) -> tuple[Gpu, ...]:
    """The GPUs of an answer: per cent, MiB and MiB in each line; one that says `[N/A]` is left out."""
    found: list[Gpu] = []
    for line in text.splitlines():
        try:
            busy, used, total = map(float, line.split(","))
        except ValueError:
            continue
        found.append(Gpu(busy / 100, used, total))
    return tuple(found)
