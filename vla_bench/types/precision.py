"""What a precision came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """What a precision came to on the machine where a policy was loaded: looked at, not assumed.

    Attributes:
        precision: Its name.
        backend: Package that does it, with version.
        device: Where the weights are.
        activations: Type of what passes between layers, and of all weights that are not quantised.
        weights: What quantised weights are stored as; "" if none are.
        block: How many consecutive weights share a scale; None is a whole row.
        compute_setting, compute: What the product is computed in: as set, and as found after a call.
        settings: Further settings that change numbers.
        layers: Number of quantised linear layers.
        kept: Linear layers that are not quantised, and why.
        parameters, parameters_quantised: How many there are.
        bytes, bytes_quantised: What they take, scales and padding included.
        kernels: Rows of the input → operation that multiplied a quantised layer by it.
        low_bit_kernels: Whether all of these take the few bits as they are; otherwise weights are converted
            back first, and quantisation saves memory but no arithmetic.
        batch_independent: Whether actions are the same in any batch, up to rounding.
    """

    precision: str
    backend: str
    device: str
    activations: str
    weights: str = ""
    block: int | None = None
    compute_setting: str = ""
    compute: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    layers: int = 0
    kept: Mapping[str, str] = field(default_factory=dict)
    parameters: int = 0
    parameters_quantised: int = 0
    bytes: int = 0
    bytes_quantised: int = 0
    kernels: Mapping[str, str] = field(default_factory=dict)
    low_bit_kernels: bool = False
    batch_independent: bool = True

    @property
    def share(self) -> float:
        """Share of the parameters that is quantised, in [0, 1]."""
        return self.parameters_quantised / self.parameters if self.parameters else 0.0

    def __str__(self) -> str:
        size = f"{self.parameters / 1e6:.1f} M parameters in {self.bytes / 1e6:.1f} MB"
        place = f"{self.precision} on {self.device} ({self.backend}): {size}"
        if not self.weights:
            return f"{place}, {self.activations}"
        scale = "one scale a row" if self.block is None else f"one scale for {self.block} weights"
        little = "" if self.share >= 0.5 else " (less than half)"
        how = "low-bit kernels" if self.low_bit_kernels else "converted back before multiplying"
        used = ", ".join(dict.fromkeys(self.kernels.values()))
        return (
            f"{place}; {self.layers} of {self.layers + len(self.kept)} linear layers with "
            f"{100 * self.share:.1f} % of the parameters{little} in {self.weights}, {scale}; the rest and "
            f"what passes between layers in {self.activations}; computes in {self.compute} (set: "
            f"{self.compute_setting}); {how}: {used}"
        )
