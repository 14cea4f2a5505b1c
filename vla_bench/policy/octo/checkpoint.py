"""From a checkpoint folder to a model with weights: the official form, or safetensors made of it once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from vla_bench.errors import DataError, MissingDataError
from vla_bench.policy.octo.config import OctoConfig
from vla_bench.policy.octo.flax import flax_tensors, step_folder
from vla_bench.policy.octo.heads import Head, build_head
from vla_bench.policy.octo.model import Octo, Sizes
from vla_bench.policy.octo.names import translate
from vla_bench.policy.octo.sequence import OBSERVATION, READOUT, TASK
from vla_bench.policy.octo.text import text_sizes
from vla_bench.policy.precision import Precision
from vla_bench.policy.quantization.loading import load
from vla_bench.policy.tensors import SINGLE, Stored, StoredTensor, check, fill, safetensors_of

HEAD = "head."


def tensors_of(folder: Path, config: OctoConfig) -> dict[str, StoredTensor]:
    """Return the parameters in a folder by our names: of `model.safetensors`, or of the official form.

    Raises:
        MissingDataError: There are none.
        DataError: They cannot be used.
        MissingCapabilityError: They are in a store that needs a further package.
    """
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder")
    if (folder / SINGLE).is_file():
        return safetensors_of(folder / SINGLE)
    return translate(flax_tensors(step_folder(folder)), config)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine.

    Attributes:
        folder: With `config.json`, the statistics, the tokenizer, and the parameters.
    """

    folder: Path

    def tensors(self, config: OctoConfig) -> dict[str, StoredTensor]:
        """Return the parameters by our names; raises as `tensors_of`."""
        return tensors_of(self.folder, config)

    @property
    def says(self) -> dict[str, str]:
        """What a report should say of the weights."""
        return {}


def sizes_of(stored: Stored, config: OctoConfig, source: Path) -> Sizes:
    """Read off the parameters what `config.json` does not say.

    Raises:
        DataError: They contradict it, or a group of tokens has no positions.
    """
    tokens = {}
    names = [OBSERVATION + name for name in config.observations] + [TASK + name for name in config.languages]
    for name in [*names, *(READOUT + name for name in config.readouts)]:
        place = stored.get(f"positions.{name}")
        dimensions = 3 if name.startswith(TASK) else 4
        if place is None or len(place.shape) != dimensions:
            found = "missing" if place is None else f"of shape {place.shape}"
            raise DataError(source, f"the positions of {name!r}, which config.json names, are {found}")
        tokens[name] = place.shape[-2]
    for name, count in config.readouts.items():
        if tokens[READOUT + name] != count:
            raise DataError(
                source, f"config.json says {count} tokens of readout {name!r}, found {tokens[READOUT + name]}"
            )
    for name in config.languages:
        if config.text_length not in (None, tokens[TASK + name]):
            raise DataError(
                source, f"config.json says texts of {config.text_length} tokens, found {tokens[TASK + name]}"
            )
    return Sizes(tokens, text_sizes(stored, source) if config.languages else None)


def picture_px(config: OctoConfig, sizes: Sizes, camera: str, source: Path) -> int:
    """Side of the square pictures of a camera.

    Raises:
        DataError: Its tokens make no square.
    """
    count, stem = sizes.tokens[OBSERVATION + camera], config.cameras[camera].encoder
    side = math.isqrt(count)
    if side * side != count:
        raise DataError(source, f"camera {camera!r} has {count} tokens, which make no square picture")
    return side * math.prod(stem.strides) * max(stem.patch_size // 16, 1)


def modules_of(config: OctoConfig, stored: Stored, source: Path) -> tuple[Octo, Head]:
    """Make model and head without weights, on the meta device.

    Raises:
        DataError: The parameters do not say sizes that go with the config.
    """
    sizes = sizes_of(stored, config, source)
    with torch.device("meta"):
        return Octo(config, sizes), build_head(config.head, config.width)


def load_octo(
    config: OctoConfig, stored: Stored, source: Path, precision: Precision, device: torch.device
) -> tuple[Octo, Head]:
    """Make model and head with parameters given by our names; holds them once, plus one tensor.

    The head stays in float32: it is small, and its first step makes whatever differs 31.6 times as large.

    Args:
        config: What `config.json` says.
        stored: Parameters.
        source: Folder that is read, for errors.
        precision: What the model computes in.
        device: Where it computes.

    Raises:
        DataError: Parameters and config contradict each other; nothing has been read then.
        MissingCapabilityError: The machine lacks what the precision needs.
    """
    model, head = modules_of(config, stored, source)
    rest = {name: tensor for name, tensor in stored.items() if not name.startswith(HEAD)}
    own = {name: tensor for name, tensor in stored.items() if name.startswith(HEAD)}
    check({HEAD + name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}, own, source)
    load(model, rest, precision, device=device, source=source, skip=not_quantised(model))
    own = {name.removeprefix(HEAD): tensor for name, tensor in own.items()}
    fill(head, own, dtype=torch.float32, device=device, source=source)
    return model.eval(), head.eval()


def not_quantised(model: Octo) -> list[str]:
    """Names of linear layers that stay as they are.

    T5 looks at the type of this layer's weight and converts its input to it: nonsense for packed bits.
    """
    return [name for name, _ in model.named_modules() if name.startswith("text.") and name.endswith(".wo")]
