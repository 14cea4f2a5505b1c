"""What a checkpoint is once its format does not matter any more, and names of weights in the formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vla_bench.policy.diffusion.design import Design
from vla_bench.policy.diffusion.scaling import Scaling, require_keys
from vla_bench.policy.tensors import Stored, StoredTensor

# A residual network as a list of its layers: what stands at which place.
_LAYERS = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


@dataclass(frozen=True, slots=True)
class Trained:
    """A diffusion policy with its weights.

    Attributes:
        source: File or folder.
        design: What it is made of.
        weights: By the names of `DiffusionNet`.
        scalings: By the keys of the inputs, and `action`.
        says: What else the checkpoint says about its conventions, by the options of a card.
    """

    source: Path
    design: Design
    weights: Stored
    scalings: Mapping[str, Scaling]
    says: Mapping[str, object]

    def __post_init__(self) -> None:
        """Compare the normalisation with what goes in and out."""
        sizes = {camera.key: 3 for camera in self.design.cameras}
        sizes |= {numbers.key: numbers.size for numbers in self.design.numbers}
        require_keys(self.scalings, {**sizes, "action": self.design.action_size}, self.source)


def renamed(stored: Stored, rename: Callable[[str], str | None]) -> dict[str, StoredTensor]:
    """Return the tensors under other names; those whose name becomes None are left out."""
    pairs = ((rename(name), tensor) for name, tensor in stored.items())
    return {name: tensor for name, tensor in pairs if name is not None}


def layer_name(rest: str) -> str:
    """`4.0.conv1.weight` of a list of layers → `layer1.0.conv1.weight`; what is no such place stays."""
    place, dot, within = rest.partition(".")
    return f"{_LAYERS.get(place, place)}{dot}{within}"
