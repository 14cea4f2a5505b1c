"""Whether a machine can hold so many workers."""

from __future__ import annotations

from pathlib import Path

from vla_bench.errors import MissingCapabilityError

# A worker with a scene of LIBERO and its pictures, as measured (283 to 287 MB), and some room.
WORKER_BYTES = 350_000_000


def available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    table = {key: rest.split() for key, _, rest in (line.partition(":") for line in lines)}
    return int(table["MemAvailable"][0]) * 1024 if "MemAvailable" in table else None


def most_workers() -> int | None:
    """How many workers memory holds; None where the system does not say."""
    available = available_bytes()
    return None if available is None else available // WORKER_BYTES


def require_memory(workers: int) -> None:
    """See that memory holds so many workers.

    Raises:
        MissingCapabilityError: It does not; says how many it holds.
    """
    available = available_bytes()
    if available is not None and workers * WORKER_BYTES > available:
        raise MissingCapabilityError(
            f"{workers} workers need about {workers * WORKER_BYTES / 1e9:.1f} GB of memory, "
            f"{available / 1e9:.1f} GB are available: --workers {available // WORKER_BYTES} would fit"
        )
