"""torchao: weights alone in few bits; inputs stay as they are: a device changes speed, not meaning."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vla_bench.errors import MissingCapabilityError
from vla_bench.policy.quantization.scheme import Scheme


class _TorchAo(Scheme):
    package = "torchao"
    compute_setting = "bfloat16"

    @abstractmethod
    def _config(self) -> Any:
        """The package's configuration of `quantize_`."""

    def convert(self, layer: nn.Linear) -> nn.Module:
        """Give the layer another weight; it stays an `nn.Linear`."""
        ao: Any = self.imported()
        ao.quantization.quantize_(layer, self._config())
        return layer

    def is_converted(self, layer: nn.Module) -> bool:
        """Whether its weight is one of torchao's tensors."""
        from torchao.utils import TorchAOBaseTensor

        return isinstance(getattr(layer, "weight", None), TorchAOBaseTensor)

    def storage(self, layer: Any) -> tuple[Tensor, ...]:
        """Weights and scales."""
        return tuple(getattr(layer.weight, name) for name in layer.weight.tensor_data_names)

    def dequantised(self, layer: Any) -> Tensor:
        """(out, in) in the type of the activations."""
        return layer.weight.dequantize()


class Int8WeightOnly(_TorchAo):
    """One scale a row."""

    weights = "int8"

    def _config(self) -> Any:
        from torchao.quantization import Int8WeightOnlyConfig

        return Int8WeightOnlyConfig(set_inductor_config=False)


class Float8WeightOnly(_TorchAo):
    """One scale a row, weights in e4m3."""

    weights = "float8_e4m3fn"

    def _config(self) -> Any:
        from torchao.quantization import Float8WeightOnlyConfig

        return Float8WeightOnlyConfig(weight_dtype=torch.float8_e4m3fn, set_inductor_config=False)


class Int4WeightOnly(_TorchAo):
    """Groups of 128 weights with scale and offset, packed for the tensor cores of GPUs from Ampere on.

    The packing is named: the package's default one needs a second package that is published empty. Rows are
    padded to a multiple of 1024, so a narrow layer takes more bytes than its bits.
    """

    weights = "int4"
    block = group = 128
    packing = "tile_packed_to_4d"
    capability = (8, 0)

    @property
    def settings(self) -> Mapping[str, str]:
        """The packing."""
        return {"packing": self.packing}

    def require(self, name: str, device: torch.device) -> None:
        """See that the device is a GPU with the kernel.

        Raises:
            MissingCapabilityError: It is not.
        """
        found = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
        if found is None or found < self.capability:
            major, minor = self.capability
            has = "" if found is None else f" of compute capability {found[0]}.{found[1]}"
            raise MissingCapabilityError(
                f"precision {name!r} needs a CUDA GPU of compute capability {major}.{minor} or newer, "
                f"this device is {device}{has}"
            )
        super().require(name, device)

    def refusal(self, layer: nn.Linear) -> str | None:
        """A row must be whole groups."""
        if layer.in_features % self.group == 0:
            return None
        return f"rows of {layer.in_features} weights are not divisible by {self.group}"

    def _config(self) -> Any:
        from torchao.quantization import Int4WeightOnlyConfig
        from torchao.quantization.quantize_.workflows import Int4PackingFormat

        return Int4WeightOnlyConfig(
            group_size=self.group, int4_packing_format=Int4PackingFormat(self.packing),
            set_inductor_config=False,
        )  # fmt: skip

    def dequantised(self, layer: Any) -> Tensor:
        """(out, in) bfloat16: the weight applied to every unit vector, for it can only multiply."""
        unit = torch.eye(layer.in_features, dtype=torch.bfloat16, device=layer.weight.device)
        return nn.functional.linear(unit, layer.weight).T
