"""Numeric backends by their real names: what the weights are stored in and what computes with them.

"int4" alone means nothing: the paper's was bitsandbytes fp4. A backend is a name in `BACKENDS`; what the
other names will do belongs here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vla_bench.errors import MissingCapabilityError, UnknownNameError

NAMES = (
    "fp32", "bf16", "bnb_int8", "bnb_fp4", "bnb_nf4", "torchao_int8wo", "torchao_int4wo", "torchao_fp8",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Precision:
    """A numeric backend.

    Attributes:
        name: As in cards and records.
        dtype: Of weights and activations, save those that the model itself keeps in float32.
    """

    name: str
    dtype: torch.dtype


BACKENDS = {
    "fp32": Precision("fp32", torch.float32),
    "bf16": Precision("bf16", torch.bfloat16),
}


def backend(name: str) -> Precision:
    """Return the backend called `name`.

    Raises:
        UnknownNameError: There is no such precision.
        MissingCapabilityError: It has a name, but no implementation in this version.
    """
    if name not in NAMES:
        raise UnknownNameError("precision", name, NAMES)
    if name not in BACKENDS:
        raise MissingCapabilityError(
            f"precision {name!r} is not implemented in this version; available: {', '.join(BACKENDS)}"
        )
    return BACKENDS[name]
