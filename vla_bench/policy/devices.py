"""Where a model computes."""

from __future__ import annotations

import torch

from vla_bench.errors import ConventionError


def pick_device(name: str) -> torch.device:
    """Return the named device; `auto` is a GPU where there is one.

    Raises:
        ConventionError: It is no device of torch, or not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConventionError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device
