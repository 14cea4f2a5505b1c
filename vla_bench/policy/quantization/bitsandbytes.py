"""bitsandbytes: LLM.int8() and 4-bit weights, as OpenVLA's authors used them; on GPUs and processors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vla_bench.policy.quantization.scheme import Scheme, type_name

# Weights that are quantised at a time: it needs 16 bytes for each, and a layer of Llama has 45 million.
_AT_ONCE = 1 << 17
_NO_PACKED_KERNEL = "off: it computes in bfloat16 whatever is set, and only some processors have it"


class _BitsAndBytes(Scheme):
    package = "bitsandbytes"

    def _rows(self, weight: Tensor) -> list[Tensor]:
        """The weight in pieces of whole rows; of 64, so that no block of 4-bit weights is cut."""
        return list(weight.split(max(64, _AT_ONCE // weight.shape[1] // 64 * 64)))


class Int8(_BitsAndBytes):
    """LLM.int8(): rows of weights and of inputs in 8 bits, columns of inputs with outliers in full precision.

    Which columns have outliers is decided over all rows of the input together, so what else is in a batch
    changes an episode's actions.
    """

    weights = "int8"
    compute_setting = "int8"
    batch_independent = False
    threshold = 6.0

    @property
    def settings(self) -> Mapping[str, str]:
        """The threshold of outliers."""
        return {"outlier_threshold": f"{self.threshold:g}"}

    def convert(self, layer: nn.Linear) -> nn.Module:
        """Return a `Linear8bitLt`."""
        bnb: Any = self.imported()
        made = bnb.nn.Linear8bitLt(
            layer.in_features, layer.out_features, layer.bias is not None, has_fp16_weights=False,
            threshold=self.threshold, device="meta",
        )  # fmt: skip
        parts = [bnb.functional.int8_vectorwise_quant(rows.half())[:2] for rows in self._rows(layer.weight)]
        whole, scales = (torch.cat(each) for each in zip(*parts, strict=True))
        made.weight = bnb.nn.Int8Params(
            whole, requires_grad=False, has_fp16_weights=False, CB=whole, SCB=scales
        )
        made.bias = layer.bias
        return made.train(layer.training)

    def is_converted(self, layer: nn.Module) -> bool:
        """Whether it is a `Linear8bitLt`."""
        bnb: Any = self.imported()
        return isinstance(layer, bnb.nn.Linear8bitLt)

    def storage(self, layer: Any) -> tuple[Tensor, ...]:
        """8-bit weights and the largest magnitude of each row; they move when the layer first runs."""
        held = layer.weight if layer.weight.CB is not None else layer.state
        return held.CB, held.SCB

    def dequantised(self, layer: nn.Module) -> Tensor:
        """(out, in) float32."""
        whole, scales = self.storage(layer)
        return whole.float() * (scales.float() / 127)[:, None]

    def computes(self, layer: nn.Module, dtype: torch.dtype) -> str:
        """Inputs are rounded twice."""
        return f"int8 of float16 inputs, outliers in {type_name(dtype)}"


class FourBit(_BitsAndBytes):
    """Blocks of 64 weights as indices into a table of 16 values, scaled by their largest magnitude.

    Args:
        table: `fp4`, what `load_in_4bit=True` meant in OpenVLA's experiments, or `nf4`.
        compute: Type that weights, inputs and biases are converted to for the product.
    """

    block = 64

    def __init__(self, table: str, compute: torch.dtype) -> None:
        self.weights, self._compute = table, compute
        self.compute_setting = type_name(compute)

    @property
    def settings(self) -> Mapping[str, str]:
        """Scales stay float32, and a kernel that not every processor has is not used."""
        return {"double_quantisation": "no", "packed_avx512bf16_kernel": _NO_PACKED_KERNEL}

    def refusal(self, layer: nn.Linear) -> str | None:
        """Two weights share a byte; what a processor does with odd rows is compiled when it first runs."""
        return f"rows of {layer.in_features} weights are odd" if layer.in_features % 2 else None

    def convert(self, layer: nn.Linear) -> nn.Module:
        """Return a `Linear4bit`."""
        bnb: Any = self.imported()
        made = bnb.nn.Linear4bit(
            layer.in_features, layer.out_features, layer.bias is not None, compute_dtype=self._compute,
            compress_statistics=False, quant_type=self.weights, device="meta",
        )  # fmt: skip
        made.support_avx512bf16_for_cpu = False
        parts = [
            bnb.functional.quantize_4bit(
                rows, blocksize=self.block, quant_type=self.weights, compress_statistics=False
            )
            for rows in self._rows(layer.weight)
        ]
        state = parts[0][1]
        state.absmax, state.shape = torch.cat([part.absmax for _, part in parts]), layer.weight.shape
        state.dtype = self._compute
        made.weight = bnb.nn.Params4bit(
            torch.cat([packed for packed, _ in parts]), requires_grad=False, quant_state=state,
            blocksize=self.block, compress_statistics=False, quant_type=self.weights, bnb_quantized=True,
            module=made,
        )  # fmt: skip
        made.quant_state = state
        made.bias = layer.bias
        return made.train(layer.training)

    def finish(self, layer: Any) -> None:
        """Convert the bias, which the layer would do when it first runs."""
        if layer.bias is not None:
            layer.bias.data = layer.bias.data.to(self._compute)

    def is_converted(self, layer: nn.Module) -> bool:
        """Whether it is a `Linear4bit`."""
        bnb: Any = self.imported()
        return isinstance(layer, bnb.nn.Linear4bit)

    def storage(self, layer: Any) -> tuple[Tensor, ...]:
        """Pairs of indices in bytes, the scale of each block, and the table."""
        return layer.weight.data, layer.quant_state.absmax, layer.quant_state.code

    def dequantised(self, layer: Any) -> Tensor:
        """(out, in), in the type that it computes in."""
        bnb: Any = self.imported()
        return bnb.functional.dequantize_4bit(layer.weight.data, layer.quant_state)

    def computes(self, layer: Any, dtype: torch.dtype) -> str:
        """What the layer settled on."""
        return type_name(layer.compute_dtype)
