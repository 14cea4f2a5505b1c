"""From a checkpoint folder to modules with weights.

A folder holds the whole model, or a LoRA adapter on top of another folder; OFT adds files for its parts, of
each at most one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from vla_bench.errors import ConventionError, DataError, MissingDataError
from vla_bench.policy.openvla import lora
from vla_bench.policy.openvla.config import ModelConfig, read_config
from vla_bench.policy.openvla.model import OpenVla
from vla_bench.policy.precision import Precision
from vla_bench.policy.quantization.loading import load
from vla_bench.policy.tensors import INDEX, SINGLE, StoredTensor, fill, state_of, weights_of

# OFT's parts, by what their files' names contain
PARTS = ("action_head", "proprio_projector", "noisy_action_projector", "vision_backbone")
_VISION = "vision_backbone."
# The one linear layer that the original does not quantise.
NOT_QUANTISED = ("language_model.lm_head",)

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Source:
    """Folders that a checkpoint consists of.

    Attributes:
        folder: The one that was named.
        base: Of the model that an adapter in `folder` belongs to, else None.
    """

    folder: Path
    base: Path | None = None

    @property
    def adapter(self) -> Path | None:
        """Folder of the adapter; None where the weights are whole: one beside them is already in them."""
        if (self.folder / SINGLE).is_file() or (self.folder / INDEX).is_file():
            return None
        places = (self.folder, self.folder / "lora_adapter")
        return next((place for place in places if (place / lora.CONFIG).is_file()), None)

    def holding(self, file: str) -> Path:
        """Return the folder that holds `file`: an adapter's own files come before those of its base."""
        return self.folder if self.base is None or (self.folder / file).is_file() else self.base

    def weights(self) -> dict[str, StoredTensor]:
        """Return the tensors of the model, with the adapter merged.

        Raises:
            MissingDataError: Weights are missing, or the adapter's base is not named.
            DataError: They cannot be used.
        """
        if self.adapter is None:
            return weights_of(self.folder)
        if self.base is None:
            raise MissingDataError(
                f"{self.adapter}: is an adapter without its model; name the model's folder as option 'base'"
            )
        return lora.with_adapter(weights_of(self.base), self.adapter)

    def part(self, name: str) -> Path:
        """Return the file of one of OFT's parts.

        Raises:
            MissingDataError: There is none.
            DataError: There are several.
        """
        found = self.parts(name)
        if not found:
            raise MissingDataError(
                f"{self.folder}: expected one file named like {name}--STEP_checkpoint.pt, found none"
            )
        if len(found) > 1:
            names = " and ".join(p.name for p in found)
            raise DataError(self.folder, f"expected one file for the part {name!r}, found {names}")
        return found[0]

    def part_tensors(self, name: str, like: nn.Module) -> dict[str, StoredTensor]:
        """Return the tensors of one of OFT's parts; `like` is the module that they belong to.

        Raises:
            MissingDataError: There is no file.
            DataError: There are several, or it cannot be used.
        """
        return state_of(self.part(name))

    def parts(self, name: str) -> list[Path]:
        """Return the files of one of OFT's parts."""
        return sorted(p for p in self.folder.glob("*checkpoint*.pt") if name in p.name)


def require_parts(source: Source, used: set[str]) -> None:
    """Compare the parts that a card uses with the files that are there.

    Raises:
        MissingDataError: A file is missing.
        DataError: There are several for one part.
        ConventionError: There is a file for a part that the card does not use.
    """
    for name in PARTS:
        if name in used:
            source.part(name)
        elif found := source.parts(name):
            raise ConventionError(
                f"{found[0]}: the checkpoint has a {name.replace('_', ' ')}, but its card uses "
                f"{', '.join(sorted(used)) or 'none of OFT’s parts'}"
            )


def load_model(source: Source, precision: Precision, device: torch.device, *, film: bool = False) -> OpenVla:
    """Load the model; holds the weights once, plus one tensor.

    Args:
        source: Where it is.
        precision: What it computes in.
        device: Where it computes.
        film: The vision towers are OFT's with FiLM, in a file of their own.

    Raises:
        MissingDataError: A file is missing.
        DataError: A file cannot be used.
        MissingCapabilityError: The model is of a kind that is not implemented, or the machine lacks what the
            precision needs.
    """
    config = read_config(source.holding("config.json"))
    model = OpenVla.on_meta(config, film=film)
    stored = source.weights()
    if film:
        stored = {name: tensor for name, tensor in stored.items() if not name.startswith(_VISION)}
        stored |= _film_vision(source, model)
    load(model, stored, precision, device=device, source=source.folder, skip=NOT_QUANTISED)
    model.language_model.model.rotary_emb.to(device)
    return model


def load_part(
    module: Module, source: Source, name: str, precision: Precision, device: torch.device
) -> Module:
    """Fill one of OFT's small modules from its file; made on any device, and never quantised.

    Raises:
        MissingDataError: The file is missing.
        DataError: It cannot be used, or there are two.
    """
    stored = source.part_tensors(name, module)
    fill(module, stored, dtype=precision.dtype, device=device, source=source.part(name))
    return module.eval()


def config_of(source: Source) -> ModelConfig:
    """Read the sizes of the model without its weights."""
    return read_config(source.holding("config.json"))


def _film_vision(source: Source, model: OpenVla) -> dict[str, StoredTensor]:
    """The vision towers of a FiLM checkpoint: layers with adapters under PEFT's names, wrapped blocks."""
    stored = source.part_tensors("vision_backbone", model.vision_backbone)
    named = {_VISION + n.removeprefix(_VISION).replace(".block.", "."): t for n, t in stored.items()}
    return lora.merge(named, _film_scale(source, named))


def _film_scale(source: Source, stored: dict[str, StoredTensor]) -> float:
    ranks = {tensor.shape[0] for name, tensor in stored.items() if ".lora_A." in name}
    place = source.folder / "lora_adapter"
    if not ranks or (place / lora.CONFIG).is_file():
        return lora.adapter_scale(place) if ranks else 1.0
    # OFT's training sets alpha to the rank, at most 16
    rank = max(ranks)
    return min(rank, 16) / rank
