"""Whether a device's memory was the reason."""

from __future__ import annotations

import sys


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory did not suffice; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))
