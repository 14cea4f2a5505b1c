"""Architectures that can be trained from nothing: one TOML file each, in `architectures/` or anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from vla_bench.config import FileModel, parse, read_toml
from vla_bench.errors import DataError, UnknownNameError

_FOLDER = Path(__file__).parent / "architectures"
# a family's training is the subpackage `training.<family>`
FAMILIES = ("openvla", "octo", "diffusion")


class Architecture(FileModel):
    """How a new model sees and acts, and how it is trained unless told otherwise; a family adds its sizes.

    Attributes:
        name: The file's stem.
        family: Which family it is of.
        options: Of the card.
        training: Keys of `training.config.TrainingConfig`.
    """

    name: str
    family: str
    title: str
    options: dict[str, Any]
    training: dict[str, Any] = Field(default_factory=dict)


def architectures() -> dict[str, Path]:
    """Return the files of the built-in architectures by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def read_architecture(name_or_path: str) -> Architecture:
    """Read an architecture by its name or from a file, as its family describes it.

    Raises:
        UnknownNameError: There is no such name, or no such family.
        MissingDataError: There is no such file.
        DataError: The file is broken or has an unknown key.
    """
    from vla_bench.learn.training.kind import kind_of

    path, known = Path(name_or_path), architectures()
    if path.suffix != ".toml":
        if name_or_path not in known:
            raise UnknownNameError("architecture", name_or_path, known)
        path = known[name_or_path]
    table = read_toml(path)
    family = table.get("family")
    if not isinstance(family, str):
        raise DataError(path, f"must name its family, one of {', '.join(FAMILIES)}; found {family!r}")
    return parse(kind_of(family).architecture, table, path, given={"name": path.stem})
