"""Reading the project's TOML files: unknown keys raise and name the nearest known one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from vla_bench.errors import DataError, MissingDataError, suggest


class FileModel(BaseModel):
    """Base of everything that is read from a file: immutable, no extra keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=FileModel)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        MissingDataError: There is no such file.
        DataError: The file is not TOML; the line is named.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(path, f"is not valid TOML: {error}") from error


def parse(
    model: type[Model],
    table: dict[str, Any],
    path: str | Path,
    *,
    at: str = "",
    given: Mapping[str, Any] | None = None,
) -> Model:
    """Validate one table of a file.

    Args:
        model: What the table describes.
        table: As it was read.
        path: The file, for errors.
        at: Name of the table in the file, for errors.
        given: Values that the table may not set, because they come from elsewhere: the name of the file, say.

    Raises:
        DataError: A key is unknown, missing, or has a value of the wrong type; all problems are listed.
    """
    given = given or {}
    try:
        made = model.model_validate({**table, **given})
    except ValidationError as error:
        problems = [_describe(model, problem, at) for problem in error.errors()]
        raise DataError(path, "; ".join(problems)) from error
    for key in given:
        if key in table:
            raise DataError(path, f"key {_dotted(at, key)!r} may not be set: it is {str(given[key])!r}")
    return made


def _describe(model: type[BaseModel], problem: Any, at: str) -> str:
    """One pydantic problem as a phrase; for an unknown key, with the keys that exist at that place."""
    place = [str(part) for part in problem["loc"]]
    name = _dotted(at, *place)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {name!r}{suggest(place[-1], _keys_at(model, place[:-1]))}"
    if problem["type"] == "missing":
        return f"key {name!r} is missing"
    if problem["type"] == "value_error":  # raised by a model of ours, which names the values itself
        return ": ".join(filter(None, (name, str(problem["ctx"]["error"]))))
    # where several types are allowed, pydantic adds which it tried: `literal['none']`, `constrained-int`
    name = _dotted(at, *(part for part in place if not re.search(r"[\[-]", part)))
    return f"{name} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _dotted(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _keys_at(model: Any, place: list[str]) -> list[str]:
    """Field names of the model that stands at `place` below `model`, through lists, dicts and unions."""
    for part in place:
        fields = getattr(model, "model_fields", None)
        annotation = fields[part].annotation if fields and part in fields else None
        inner = _models_in(annotation)
        if inner:
            model = inner[0]
    return sorted(getattr(model, "model_fields", {}))


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
