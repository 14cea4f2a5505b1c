"""Writes an official checkpoint once as safetensors, in our names and layouts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from vla_bench.errors import DataError, MissingDataError
from vla_bench.policy.octo.checkpoint import HEAD, modules_of, tensors_of
from vla_bench.policy.octo.config import FILE as CONFIG_FILE
from vla_bench.policy.octo.config import read_config
from vla_bench.policy.octo.scaling import read_statistics
from vla_bench.policy.octo.text import FILE as TOKENIZER_FILE
from vla_bench.policy.statistics import FILE as STATISTICS_FILE
from vla_bench.policy.tensors import SINGLE, check


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written.

    Attributes:
        folder: Where.
        tensors, parameters, bytes: How many there are, and what their file takes.
        files: Names of all files.
    """

    folder: Path
    tensors: int
    parameters: int
    bytes: int
    files: tuple[str, ...]


def convert(checkpoint: Path, out: Path) -> Converted:
    """Write a checkpoint folder as safetensors; everything is checked before anything is written.

    The values are those of the original, in its type; the stems' convolutions are standardised.

    Args:
        checkpoint: Folder in the official form.
        out: Folder that is made.

    Raises:
        MissingDataError: A file is missing.
        DataError: A file cannot be used, or `out` holds a checkpoint already.
        MissingCapabilityError: The model is of a kind that is not implemented, or a package is missing.
    """
    if (out / SINGLE).exists():
        raise DataError(
            out / SINGLE, "is there already, and is not overwritten; remove it or name another folder"
        )
    if (checkpoint / SINGLE).is_file():
        raise DataError(checkpoint / SINGLE, "is there already: this checkpoint has been converted")
    config = read_config(checkpoint)
    read_statistics(checkpoint)
    stored = tensors_of(checkpoint, config)
    model, head = modules_of(config, stored, checkpoint)
    expected = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    expected |= {HEAD + name: tuple(t.shape) for name, t in head.state_dict().items()}
    check(expected, stored, checkpoint)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.read() for name, tensor in stored.items()}
    _write(tensors, out / SINGLE)
    for name in (CONFIG_FILE, STATISTICS_FILE, TOKENIZER_FILE):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, out / name)
    files = tuple(sorted(p.name for p in out.iterdir()))
    count = sum(tensor.numel() for tensor in tensors.values())
    return Converted(out, len(tensors), count, (out / SINGLE).stat().st_size, files)


def _write(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """A file that has the name is whole."""
    partial = path.with_suffix(".partial")
    try:
        save_file(dict(tensors), partial, metadata={"format": "pt"})
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise MissingDataError(f"{path}: cannot be written: {error}") from error
