"""Architectures that can be trained from nothing: one TOML file each, in `architectures/` or anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from vla_bench.config import FileModel, parse, read_toml
from vla_bench.errors import UnknownNameError

_FOLDER = Path(__file__).parent / "architectures"


class Architecture(FileModel):
    """Sizes of a model in OpenVLA's plan, how it sees and acts, and how it is trained unless told otherwise.

    Attributes:
        name: The file's stem.
        image_px: Side of the pictures that the towers see.
        prompt: Template of the question, whose words the tokenizer knows.
        dino, siglip: Keyword arguments of timm that differ from the towers of openvla-7b.
        llama: Keys of transformers' LlamaConfig that differ from Llama 2 7B's; the vocabulary is its own.
        options: Of the card.
        training: Keys of `training.config.TrainingConfig`.
    """

    name: str
    title: str
    image_px: int = Field(gt=0)
    prompt: str
    dino: dict[str, Any]
    siglip: dict[str, Any]
    llama: dict[str, Any]
    options: dict[str, Any]
    training: dict[str, Any] = Field(default_factory=dict)


def architectures() -> dict[str, Path]:
    """Return the files of the built-in architectures by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def read_architecture(name_or_path: str) -> Architecture:
    """Read an architecture by its name or from a file.

    Raises:
        UnknownNameError: There is no such name.
        MissingDataError: There is no such file.
        DataError: The file is broken or has an unknown key.
    """
    path, known = Path(name_or_path), architectures()
    if path.suffix != ".toml":
        if name_or_path not in known:
            raise UnknownNameError("architecture", name_or_path, known)
        path = known[name_or_path]
    return parse(Architecture, read_toml(path), path, given={"name": path.stem})
