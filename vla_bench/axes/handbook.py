"""Writes what `docs/` says of tasks and factors: `python -m vla_bench.axes.handbook docs`.

The page is a function of the factors' files, and a test holds it to them. Run this when a factor, a task or
its look changes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from vla_bench import catalog
from vla_bench.axes.factors import LEVELS, Factor, factors
from vla_bench.axes.gallery import Row, contact_sheet, factor_pictures, label, still
from vla_bench.axes.simulation import build_simulation
from vla_bench.types import TASK_AXES, Image

PAGE, TASKS, FACTORS = "factors.md", "tasks.jpg", "factors.jpg"
SUITES = ("bridge_base", "bridge")
SHOWN = "bridge_base/put_the_carrot_on_the_plate"
PATTERNS = ("visual.*", "motion.*", "physical.*")

_COLUMNS = 8
_TASK_PX, _FACTOR_PX = 144, 112  # heights
_QUALITY = 80
_HEAD = f"""# Factors: what can be varied on any task

Written by `python -m vla_bench.axes.handbook docs` from the files in `tasks/<axis>/`; do not edit.

`--vary 'visual.lighting@2'` runs a factor at one of its five levels, `a@2+b@1` several at once, and
`'visual.*@0,2,4'` every factor of an axis at several levels; level 0 is the unchanged task. A level is a
distance from the task as it is, in the units below, fixed before anything was certified; what is drawn
within a level is in the records. Factors that replace the same thing exclude each other, and a factor that
does not apply to a task says why.

What changes the first picture, on `{SHOWN}`:

![Rows are factors, columns are levels 0 to 5]({FACTORS})
"""


def page() -> str:
    """All factors, axis by axis, as Markdown."""
    parts = [_HEAD]
    for axis in TASK_AXES:
        chosen = [factor for factor in factors().values() if factor.axis == axis]
        levels = " | ".join(map(str, range(1, LEVELS + 1)))
        parts.append(f"## {axis.capitalize()} ({len(chosen)})\n")
        parts.append(f"| factor | what it changes | quantity (unit) | 0 | {levels} |")
        parts.append("|---" * (LEVELS + 4) + "|")
        parts += [line for factor in chosen for line in _rows(factor)]
        parts.append("")
    return "\n".join(parts)


def write(folder: Path) -> Iterator[Path]:
    """Write the page and its pictures; yields each file once written."""
    yield _write_page(folder / PAGE)
    yield _write_picture(folder / TASKS, contact_sheet(list(_task_rows())))
    yield _write_picture(folder / FACTORS, contact_sheet(list(_factor_rows())))


def _rows(factor: Factor) -> Iterator[str]:
    """One row a quantity; the first one names the factor."""
    says = factor.changes
    if factor.sets:
        says += f" Replaces: {', '.join(factor.sets)}."
    if factor.needs:
        says += f" Needs: {', '.join(name.replace('_', ' ') for name in factor.needs)}."
    name = f"`{factor.id}`"
    for quantity, q in factor.quantities.items():
        numbers = " | ".join(f"{value:g}" for value in (q.nominal, *q.levels))
        yield f"| {name} | {says} | {quantity.replace('_', ' ')} ({q.unit}) | {numbers} |"
        name = says = ""


def _task_rows() -> Iterator[Row]:
    for name in SUITES:
        suite = catalog.suite(name)
        pictures: dict[str, Image | None] = {}
        for stem in suite.stems():
            with closing(build_simulation(suite.task(stem))) as simulation:
                pictures[stem] = _resized(still(simulation), _TASK_PX)
        for first in range(0, len(pictures), _COLUMNS):
            part = list(pictures.items())[first : first + _COLUMNS]
            yield Row("" if first else name, {catalog.words_of(stem): picture for stem, picture in part})


def _factor_rows() -> Iterator[Row]:
    levels = ",".join(map(str, range(LEVELS + 1)))
    made = factor_pictures(catalog.task(SHOWN), PATTERNS, levels)
    for number, (name, pictures) in enumerate(made.pictures.items()):
        captions = (f"level {level}" if number == 0 else " " * level for level in range(LEVELS + 1))
        tiles = {c: _resized(pictures.get(level), _FACTOR_PX) for level, c in enumerate(captions)}
        yield Row(label(factors()[name]), tiles)


def _resized(picture: Image | None, height_px: int) -> Image | None:
    if picture is None:
        return None
    from PIL import Image as Pictures

    width_px = round(height_px * picture.shape[1] / picture.shape[0])
    return np.asarray(Pictures.fromarray(picture).resize((width_px, height_px), Pictures.Resampling.LANCZOS))


def _write_page(path: Path) -> Path:
    path.write_text(page(), encoding="utf-8")
    return path


def _write_picture(path: Path, picture: Image) -> Path:
    imageio.imwrite(path, picture, quality=_QUALITY)
    return path


def main(arguments: Iterable[str]) -> None:
    """Write into the folder that is named, `docs` by default."""
    for file in write(Path(next(iter(arguments), "docs"))):
        print(f"written: {file}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
