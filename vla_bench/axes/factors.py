"""What can be varied: a factor is one TOML file `tasks/<axis>/<name>.toml`, its id `<axis>.<name>`.

A factor has five levels beyond level 0, which changes nothing. Each of its quantities has a unit, a nominal
value, and five values whose distance from the nominal one never falls and somewhere grows; they were fixed
before anything was certified. `function` names the function of the axis's module that turns a level into
`Edits`; `needs` names the conditions of `requirements` under which the factor applies to a task; factors that
set the same thing (`sets`) contradict each other.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from vla_bench import catalog
from vla_bench.config import FileModel, parse, read_toml
from vla_bench.errors import UnknownNameError
from vla_bench.types import TASK_AXES, TaskAxis

if TYPE_CHECKING:
    from collections.abc import Callable

    from vla_bench.axes.cell import Cell
    from vla_bench.sim.edits import Edits

LEVELS = 5


class Quantity(FileModel):
    """What a level sets: `{ unit = "deg", nominal = 0, levels = [5, 10, 20, 30, 45] }`."""

    unit: str
    nominal: float = 0.0
    levels: tuple[float, float, float, float, float]

    @model_validator(mode="after")
    def _distances_grow(self) -> Quantity:
        distances = [abs(value - self.nominal) for value in self.levels]
        if any(far < near for near, far in zip([0.0, *distances], distances, strict=False)):
            raise ValueError(f"levels {self.levels} do not move away from the nominal {self.nominal}")
        if distances[0] == 0 or distances[-1] == distances[0]:
            raise ValueError(f"levels {self.levels} do not differ from {self.nominal} or each other")
        return self


class Factor(FileModel):
    """One factor, as its file declares it.

    Attributes:
        name: Stem of the file.
        axis: Its folder.
        source: The file.
        title: A few words.
        changes: What it does to a task, in a sentence.
        function: Function of the axis's module.
        needs: Conditions under which it applies, by name.
        sets: What it replaces rather than adjusts.
        quantities: What a level sets, by name.
        options: Constants of the function.
        texts: File of frozen texts beside this one, where the factor says something.
        provenance: Where its texts or numbers come from.
    """

    name: str
    axis: TaskAxis
    source: Path
    title: str
    changes: str
    function: str
    needs: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    quantities: dict[str, Quantity] = Field(min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)
    texts: str | None = None
    provenance: str = ""

    @property
    def id(self) -> str:
        """`<axis>.<name>`: the name in variations."""
        return f"{self.axis}.{self.name}"

    def values(self, level: int) -> dict[str, float]:
        """What a level from 1 to 5 sets."""
        return {name: quantity.levels[level - 1] for name, quantity in self.quantities.items()}

    def load(self) -> Callable[[Cell], Edits]:
        """The factor's function.

        Raises:
            UnknownNameError: The axis's module has no such function.
        """
        module = importlib.import_module(f"vla_bench.axes.{self.axis}")
        if not hasattr(module, self.function):
            known = [name for name in vars(module) if not name.startswith("_")]
            raise UnknownNameError("function", self.function, known, where=str(self.source))
        return getattr(module, self.function)


def factors() -> Mapping[str, Factor]:
    """All factors by id, in the canonical order: axis by axis, then by name.

    Raises:
        DataError: A factor's file cannot be used.
    """
    return _factors(tuple(catalog.data_folders("tasks")))


@functools.lru_cache(maxsize=8)
def _factors(folders: tuple[Path, ...]) -> Mapping[str, Factor]:
    found: dict[str, Factor] = {}
    for axis in TASK_AXES:
        files = {p.stem: p for folder in reversed(folders) for p in (folder / axis).glob("*.toml")}
        for name in sorted(files):
            table = {"name": name, "axis": axis, "source": files[name], **read_toml(files[name])}
            factor = parse(Factor, table, files[name])
            found[factor.id] = factor
    return found


def factor(name: str) -> Factor:
    """The factor with the id `name`.

    Raises:
        UnknownNameError: There is none; names the nearest.
    """
    known = factors()
    if name not in known:
        raise UnknownNameError("factor", name, known)
    return known[name]
