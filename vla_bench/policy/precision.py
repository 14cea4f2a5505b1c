"""Numeric backends by their real names: what the weights are stored in and what computes with them.

"int4" alone means nothing: the paper's was bitsandbytes fp4. A backend is a name in `BACKENDS`; what a new
one does is a `Scheme` beside the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vla_bench.errors import UnknownNameError
from vla_bench.policy.quantization.bitsandbytes import FourBit, Int8
from vla_bench.policy.quantization.scheme import Scheme
from vla_bench.policy.quantization.torchao import Float8WeightOnly, Int4WeightOnly, Int8WeightOnly


@dataclass(frozen=True, slots=True)
class Precision:
    """A numeric backend.

    Attributes:
        name: As in cards and records.
        dtype: Of activations, and of all weights that are not quantised.
        scheme: How linear layers are quantised; None leaves them.
    """

    name: str
    dtype: torch.dtype
    scheme: Scheme | None = None

    def require(self, device: torch.device) -> None:
        """See that this machine can do it, before anything is read.

        Raises:
            MissingCapabilityError: It cannot; says what is missing.
        """
        if self.scheme is not None:
            self.scheme.require(self.name, device)


BACKENDS = {
    each.name: each
    for each in (
        Precision("fp32", torch.float32),
        Precision("bf16", torch.bfloat16),
        Precision("bnb_int8", torch.bfloat16, Int8()),
        Precision("bnb_fp4", torch.bfloat16, FourBit("fp4", torch.float32)),
        Precision("bnb_nf4", torch.bfloat16, FourBit("nf4", torch.bfloat16)),
        Precision("torchao_int8wo", torch.bfloat16, Int8WeightOnly()),
        Precision("torchao_int4wo", torch.bfloat16, Int4WeightOnly()),
        Precision("torchao_fp8", torch.bfloat16, Float8WeightOnly()),
    )
}


def backend(name: str) -> Precision:
    """Return the backend called `name`.

    Raises:
        UnknownNameError: There is no such precision.
    """
    if name not in BACKENDS:
        raise UnknownNameError("precision", name, BACKENDS)
    return BACKENDS[name]
