"""What is known of each category of object: where its model is, how it is laid down, when it is open or on.

The facts are LIBERO's (`envs/objects/*.py` of commit 8f1084e). A category that is in no table but whose
model file exists is usable with the defaults of its folder, so any further BDDL file in LIBERO's dialect
loads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from pathlib import Path

from vla_bench import catalog
from vla_bench.errors import MissingDataError, UnknownNameError, suggest
from vla_bench.sim.assets import check_files, libero_files

Range = tuple[float, float]

# One uniform draw of an angle (rad) about each axis, in this order.
Rotation = tuple[tuple[str, Range], ...]

OBJECTS_DIR = Path(__file__).parent / "data" / "objects"


@dataclass(frozen=True, slots=True)
class Articulation:
    """Joint ranges sampled at reset and thresholds of the predicates (rad or m).

    Attributes:
        resets: Predicate of the initial state → range of the joint.
        tests: Predicate → test of one joint's position.
        indicator: Site that is shown while the thing is on.
    """

    resets: dict[str, Range]
    tests: dict[str, Callable[[float], bool]]
    indicator: str | None = None


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of object or fixture."""

    name: str
    path: Path
    rotation: Rotation
    articulation: Articulation | None = None


def _opens_below(opened: Range, closed: Range) -> Articulation:
    return Articulation(
        {"open": opened, "close": closed},
        {"open": lambda q: q < max(opened), "close": lambda q: q > min(closed)},
    )


def _opens_above(opened: Range, closed: Range) -> Articulation:
    return Articulation(
        {"open": opened, "close": closed},
        {"open": lambda q: q > min(opened), "close": lambda q: q < max(closed)},
    )


_ARTICULATIONS = {
    "wooden_cabinet": _opens_below((-0.16, -0.14), (0.0, 0.005)),
    "white_cabinet": _opens_below((-0.16, -0.14), (0.0, 0.005)),
    "microwave": _opens_below((-2.094, -1.3), (-0.005, 0.0)),
    "drawers": _opens_above((0.09, 0.13), (0.0, 0.005)),
    "short_cabinet": _opens_above((0.10, 0.16), (-0.005, 0.0)),
    "short_fridge": _opens_above((2.0, 2.7), (-0.005, 0.0)),
    "flat_stove": Articulation(
        {"turnon": (0.5, 2.1), "turnoff": (-0.005, 0.0)},
        {"turnon": lambda q: q >= 0.5, "turnoff": lambda q: q < 0.0},
        indicator="burner",
    ),
}

_UPRIGHT: Rotation = (("x", (pi / 2, pi / 2)),)
_FLAT: Rotation = (("x", (0.0, 0.0)),)
_BOTTLE: Rotation = (("x", (pi / 2, pi / 2)), ("z", (pi / 2, pi / 2)))

_FOLDERS: dict[str, Rotation] = {
    "stable_hope_objects": _UPRIGHT,
    "stable_scanned_objects": _UPRIGHT,
    "turbosquid_objects": _FLAT,
    "articulated_objects": (("x", (pi / 4, pi / 2)),),
}

_ROTATIONS: dict[str, Rotation] = {
    **dict.fromkeys(("alphabet_soup", "tomato_sauce"), (("z", (pi / 2, pi / 2)),)),
    **dict.fromkeys(("butter", "chocolate_pudding", "cream_cheese", "popcorn", "simple_rack"), _FLAT),
    **dict.fromkeys(
        ("ketchup", "macaroni_and_cheese", "mayo", "milk", "orange_juice", "salad_dressing",
         "new_salad_dressing"),
        _BOTTLE,
    ),
    **dict.fromkeys(("black_book", "yellow_book"), (("x", (-pi / 2, -pi / 4)),)),
    **dict.fromkeys(("red_coffee_mug", "porcelain_mug", "white_yellow_mug"), (("x", (-pi / 2, -pi / 2)),)),
    "flat_stove": (("y", (0.0, 0.0)),),
    "white_storage_box": (("y", (0.0, 0.0)),),
}  # fmt: skip


def find(name: str, where: str = "") -> Category:
    """Find a category: among the built-in models first, then in LIBERO's assets.

    Raises:
        UnknownNameError: No model of that name exists; names the nearest.
        MissingDataError: It is not built in, and LIBERO's data is not there.
    """
    builtin = OBJECTS_DIR / f"{name}.xml"
    if builtin.is_file():
        return Category(name, builtin, _ROTATIONS.get(name, (("z", (0.0, 0.0)),)), _ARTICULATIONS.get(name))
    try:
        known = _libero_models(catalog.libero_root() / "assets")
    except MissingDataError as error:
        near = suggest(name, sorted(_builtin_names()))
        raise MissingDataError(f"{where}object category {name!r} is not built in{near}; {error}") from error
    if name not in known:
        _refuse_missing_model(name)
        raise UnknownNameError("object category", name, [*known, *_builtin_names()], where=where.rstrip(": "))
    path = known[name]
    folder = path.parent.name if path.parent.name in _FOLDERS else path.parent.parent.name
    return Category(name, path, _ROTATIONS.get(name, _FOLDERS[folder]), _ARTICULATIONS.get(name))


def _refuse_missing_model(name: str) -> None:
    """A category that LIBERO has and this folder lacks is not unknown."""
    for file in libero_files():
        if file.startswith("assets/") and file.endswith(f"/{name}.xml"):
            check_files([catalog.libero_root() / file])


def _builtin_names() -> list[str]:
    return [p.stem for p in OBJECTS_DIR.glob("*.xml")]


@functools.lru_cache(maxsize=4)
def _libero_models(assets: Path) -> dict[str, Path]:
    models = {p.stem: p for p in assets.glob("articulated_objects/*.xml")}
    for folder in ("turbosquid_objects", "stable_scanned_objects", "stable_hope_objects"):
        models |= {p.stem: p for p in (assets / folder).glob("*/*.xml") if p.stem == p.parent.name}
    return models
