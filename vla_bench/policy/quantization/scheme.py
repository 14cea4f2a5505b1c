"""What a quantisation of linear layers is, and which layers of a model it takes."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from types import ModuleType
from typing import cast

import torch
from torch import Tensor, nn

from vla_bench.errors import MissingCapabilityError, UnknownNameError


class Scheme(ABC):
    """A way to store the weight of a linear layer in few bits.

    Attributes:
        package: Distribution that implements it.
        weights: What the weights become, in the package's words.
        block: Number of consecutive weights that share a scale; None is a whole row.
        compute_setting: The type of computing that was asked for.
        settings: What else changes numbers, for the report.
        batch_independent: Whether a row of the input gives the same output whatever other rows come with it,
            up to rounding.
    """

    package: str
    weights: str
    block: int | None = None
    compute_setting: str
    batch_independent: bool = True

    @property
    def settings(self) -> Mapping[str, str]:
        """Settings beyond those that have a name of their own."""
        return {}

    def require(self, name: str, device: torch.device) -> None:
        """See that this machine can do it.

        Raises:
            MissingCapabilityError: It cannot; says what precision `name` lacks on `device`.
        """
        self.imported(name)

    def refusal(self, layer: nn.Linear) -> str | None:
        """Why this layer cannot be converted; None if it can."""
        return None

    @abstractmethod
    def convert(self, layer: nn.Linear) -> nn.Module:
        """Return what replaces a layer; its weight is on the device, its bias may still be missing."""

    def finish(self, layer: nn.Module) -> None:  # noqa: B027  (most have nothing to do)
        """Do what is left to do when everything of a converted layer is there."""

    @abstractmethod
    def is_converted(self, layer: nn.Module) -> bool:
        """Whether `convert` made it."""

    @abstractmethod
    def storage(self, layer: nn.Module) -> tuple[Tensor, ...]:
        """The tensors that stand for the weight of a converted layer."""

    @abstractmethod
    def dequantised(self, layer: nn.Module) -> Tensor:
        """(out, in) weight that a converted layer computes with."""

    def computes(self, layer: nn.Module, dtype: torch.dtype) -> str:
        """What a converted layer computes in, after it has run once on inputs of type `dtype`."""
        return type_name(dtype)

    def imported(self, name: str = "") -> ModuleType:
        """Return the package.

        Raises:
            MissingCapabilityError: It is not installed.
        """
        if loaded := sys.modules.get(self.package):
            return loaded
        try:
            with _without_fetched_kernels():
                return importlib.import_module(self.package)
        except ImportError as error:
            raise MissingCapabilityError(
                f"precision {name!r} needs the package {self.package!r}: "
                "pip install 'vla-bench[quantization]'"
            ) from error

    @property
    def version(self) -> str:
        """The package and its version."""
        return f"{self.package} {importlib.metadata.version(self.package)}"


def choose(module: nn.Module, scheme: Scheme, skip: Collection[str] = ()) -> set[str]:
    """Return the names of the layers of `module` that `scheme` takes.

    These are all of exactly the type `nn.Linear` (parents of subclasses may use the weight themselves),
    except those of the skip list, those that do not fit, and those that share their weight with another
    module.

    Args:
        module: Any model; on any device.
        scheme: Decides what fits.
        skip: Names of modules that stay as they are, with everything in them.

    Raises:
        UnknownNameError: The model has no module of a name in `skip`.
    """
    modules = dict(module.named_modules())
    for name in skip:
        if name not in modules:
            raise UnknownNameError("module", name, modules)
    uses = Counter(id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False))
    return {
        name
        for name, layer in modules.items()
        if type(layer) is nn.Linear
        and not any(name == kept or name.startswith(f"{kept}.") for kept in skip)
        and scheme.refusal(layer) is None
        and uses[id(layer.weight)] == 1
    }


def type_name(dtype: torch.dtype) -> str:
    """Return a type's name: `bfloat16`, `float32`, …."""
    return str(dtype).removeprefix("torch.")


@contextlib.contextmanager
def _without_fetched_kernels() -> Iterator[None]:
    """Hide the package `kernels`: where it is installed, bitsandbytes loads code from the hub on import."""
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    hidden = {name: modules[name] for name in ["kernels"] if name in modules}
    modules["kernels"] = None
    try:
        yield
    finally:
        del modules["kernels"]
        modules |= hidden
