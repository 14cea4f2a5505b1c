"""Weights into a model at a precision: every layer is quantised when its weight has been read.

Never more than one tensor of the original is held beside what is kept.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn

from vla_bench.errors import MissingCapabilityError
from vla_bench.policy.precision import Precision
from vla_bench.policy.quantization.scheme import Scheme, choose
from vla_bench.policy.tensors import Stored, StoredTensor, assign, fill


def load(
    module: nn.Module,
    stored: Stored,
    precision: Precision,
    *,
    device: torch.device,
    source: Path,
    skip: Collection[str] = (),
) -> None:
    """Fill a module that has names and shapes with stored weights, at a precision.

    Args:
        module: Usually on the meta device; quantised layers take the place of its linear ones.
        stored: Tensors by the module's names, exactly.
        precision: What becomes of them.
        device: Where they live.
        source: Folder or file that is read, for errors.
        skip: Names of modules that are not quantised, with everything in them.

    Raises:
        DataError: Names or shapes differ; nothing has been read then.
        MissingCapabilityError: The machine lacks something, or memory.
        UnknownNameError: There is no module of a name in `skip`.
    """
    precision.require(device)
    scheme = precision.scheme
    conversion = None if scheme is None else _Conversion(scheme, choose(module, scheme, skip))
    place = conversion or _assign
    try:
        fill(module, stored, dtype=precision.dtype, device=device, source=source, place=place)
    except torch.OutOfMemoryError as error:
        raise MissingCapabilityError(
            f"{source} at {precision.name!r} does not fit into the memory of {device}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    if conversion is not None:
        conversion.finish(module)


def quantise(
    module: nn.Module, precision: Precision, *, device: torch.device, skip: Collection[str] = ()
) -> None:
    """Bring a module that has its weights to a device and a precision, in place, layer by layer.

    What shared a weight with something else has one of its own afterwards.

    Args:
        module: Any model; quantised layers take the place of its linear ones.
        precision: What becomes of its weights.
        device: Where they live afterwards.
        skip: Names of modules that are not quantised, with everything in them.

    Raises:
        MissingCapabilityError: The machine lacks something, or memory.
        UnknownNameError: There is no module of a name in `skip`.
    """
    where = Path(type(module).__name__)
    own = {
        name: StoredTensor(where, tuple(value.shape), value.dtype, partial(_own, module, name))
        for name, value in module.state_dict().items()
    }
    load(module, own, precision, device=device, source=where, skip=skip)
    module.to(device)  # buffers that are no weights


def _own(module: nn.Module, name: str) -> torch.Tensor:
    path, _, leaf = name.rpartition(".")
    return getattr(module.get_submodule(path), leaf).detach()


class _Conversion:
    """Places values as they come, and converts a layer when its weight has come."""

    def __init__(self, scheme: Scheme, chosen: set[str]) -> None:
        self._scheme, self._weights = scheme, {f"{name}.weight": name for name in chosen}

    def __call__(self, module: nn.Module, name: str, value: torch.Tensor) -> None:
        assign(module, name, value)
        if layer := self._weights.get(name):
            _replace(module, layer, self._scheme.convert(cast(nn.Linear, module.get_submodule(layer))))
            _release()

    def finish(self, module: nn.Module) -> None:
        """Let every converted layer do what is left to do."""
        for name in self._weights.values():
            self._scheme.finish(module.get_submodule(name))


def _assign(module: nn.Module, name: str, value: torch.Tensor) -> None:
    assign(module, name, value)
    _release()


def _release() -> None:
    """Return what is free to the system: converting leaves holes between what stays, and glibc keeps them."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, layer)
