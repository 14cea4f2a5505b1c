"""Pictures of tasks and factors: a still of every task, and contact sheets that a stranger can read."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from vla_bench.axes.factors import LEVELS, Factor, factor
from vla_bench.axes.requirements import refusal
from vla_bench.axes.simulation import VariedSimulation, build_simulation
from vla_bench.axes.variation import expand
from vla_bench.errors import PlacementError, VlaBenchError
from vla_bench.types import CameraView, Episode, Image, Task

_DPI = 128  # a power of two, so that sizes in inches are exact
_LINE_PX, _LETTER_PX = 13, 5.6  # height and mean width of the letters of a label
_LABEL_PX = 170  # width of the labels of rows
_GAP_PX = 4
_PAPER, _BLANK = 255, 225  # grey levels of the background and of a picture that does not exist


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a contact sheet: a label, and pictures (H, W, 3) by caption; None is a picture left out."""

    label: str
    tiles: Mapping[str, Image | None]


@dataclass(frozen=True, slots=True)
class FactorPictures:
    """What factors do to the first picture of a task.

    Attributes:
        pictures: Factor id → level → picture, for the factors that show.
        left_out: Factor id, or `factor@level`, → why it is not drawn.
    """

    pictures: Mapping[str, Mapping[int, Image]]
    left_out: Mapping[str, str]


def still(simulation: VariedSimulation, variation: str = "") -> Image:
    """What the first camera of the protocol sees at the start of the first episode, at the protocol's size.

    Raises:
        PlacementError: The variation has no feasible draw.
    """
    task = simulation.task
    start = {"seed": 0} if task.init_states is None else {"init_state": 0}
    simulation.reset(Episode(task.id, variation, **start))
    view = CameraView(task.cameras[0], task.observation_height_px, task.observation_width_px)
    return simulation.observe([view]).images[view.name]


def write_stills(tasks: Sequence[Task], folder: Path, *, columns: int = 5) -> Iterator[Path]:
    """Write `stills/<stem>.png` for every task, then the index `tasks.png`; yields each file once written."""
    (folder / "stills").mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Image | None] = {}
    for task in tasks:
        with closing(build_simulation(task)) as simulation:
            picture = pictures[task.stem] = still(simulation)
        yield _write(folder / "stills" / f"{task.stem}.png", picture)
    stems = list(pictures)
    rows = [stems[first : first + columns] for first in range(0, len(stems), columns)]
    yield _write(
        folder / "tasks.png", contact_sheet([Row("", {stem: pictures[stem] for stem in row}) for row in rows])
    )


def factor_pictures(task: Task, patterns: Sequence[str], levels: str) -> FactorPictures:
    """Draw every factor that some patterns name (`visual.*`) at levels written as in variations (`0,2,4`).

    A factor that does not apply to the task, or that leaves the first picture as it is at every level (mass,
    what happens later, what is said), is left out with the reason.

    Raises:
        UnknownNameError: A pattern matches no factor.
        VariationError: A level that is none.
    """
    expand(f"{pattern}@{levels}" for pattern in patterns)  # refuses levels before anything is drawn
    names = [variation.partition("@")[0] for variation in expand(f"{p}@{LEVELS}" for p in patterns)]
    pictures: dict[str, dict[int, Image]] = {}
    left_out: dict[str, str] = {}
    with closing(build_simulation(task)) as simulation:
        unchanged = still(simulation)
        for name in names:
            reason = refusal(factor(name), task)
            if reason is not None:
                left_out[name] = reason
                continue
            drawn = _at_levels(simulation, factor(name), _numbers(levels), left_out)
            if all(np.array_equal(unchanged, picture) for level, picture in drawn.items() if level):
                left_out.setdefault(name, "does not show in the first picture")
            else:
                pictures[name] = drawn
    return FactorPictures(pictures, left_out)


def write_factors(
    task: Task, patterns: Sequence[str], levels: str, folder: Path
) -> tuple[Path, Mapping[str, str]]:
    """Write `factors_<stem>.png`, rows factors and columns levels; returns the file and what is left out.

    Raises:
        VlaBenchError: No factor is left to draw; or as `factor_pictures`.
    """
    made = factor_pictures(task, patterns, levels)
    if not made.pictures:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in made.left_out.items())
        raise VlaBenchError(f"no factor of {', '.join(patterns)} can be drawn on {task.id}: {reasons}")
    rows = [
        Row(
            label(factor(name)),
            {_caption(factor(name), level): drawn.get(level) for level in _numbers(levels)},
        )
        for name, drawn in made.pictures.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    return _write(folder / f"factors_{task.stem}.png", contact_sheet(rows)), made.left_out


def contact_sheet(rows: Sequence[Row]) -> Image:
    """Rows of pictures of one size, unscaled, each under its caption and beside its row's label."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = next(p.shape[:2] for row in rows for p in row.tiles.values() if p is not None)
    left = _LABEL_PX if any(row.label for row in rows) else 0
    strip = _LINE_PX * max(_wrap(c, width).count("\n") + 1 for row in rows for c in row.tiles) + _GAP_PX
    across = left + max(len(row.tiles) for row in rows) * (width + _GAP_PX)
    down = len(rows) * (strip + height + _GAP_PX)
    paper = np.full((down, across, 3), _PAPER, dtype=np.uint8)
    texts: list[tuple[int, int, str]] = []
    for i, row in enumerate(rows):
        top = i * (strip + height + _GAP_PX) + strip
        texts.append((0, top, _wrap(row.label, left)))
        for j, (caption, picture) in enumerate(row.tiles.items()):
            x = left + j * (width + _GAP_PX)
            paper[top : top + height, x : x + width] = _BLANK if picture is None else picture
            texts.append((x, top - strip, _wrap(caption, width)))
    figure = Figure(figsize=(across / _DPI, down / _DPI), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    figure.figimage(paper, origin="upper")
    for x, y, text in texts:
        figure.text((x + 2) / across, 1 - (y + 2) / down, text, va="top", fontsize=5.6, linespacing=1.2)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _numbers(levels: str) -> list[int]:
    return sorted({int(level) for level in levels.split(",")})


def _at_levels(
    simulation: VariedSimulation, factor: Factor, levels: Sequence[int], left_out: dict[str, str]
) -> dict[int, Image]:
    """Level → picture; a level that has none is left out with the reason."""
    drawn: dict[int, Image] = {}
    for level in levels:
        reason = refusal(factor, simulation.task, level) if level else None
        if reason is None:
            try:
                drawn[level] = still(simulation, f"{factor.id}@{level}")
            except PlacementError as error:
                reason = str(error)
        if reason is not None:
            left_out[f"{factor.id}@{level}"] = reason
    return drawn


def label(factor: Factor) -> str:
    """What a factor is called beside its row of pictures."""
    quantities = [f"{name.replace('_', ' ')} ({q.unit})" for name, q in factor.quantities.items()]
    return "\n".join([factor.title, factor.id, "", *quantities])


def _caption(factor: Factor, level: int) -> str:
    values = [f"{value:g}" for value in factor.values(level).values()] if level else ["unchanged"]
    return f"level {level}: {' · '.join(values)}"


def _wrap(text: str, width_px: int) -> str:
    return "\n".join(textwrap.fill(line, max(int(width_px / _LETTER_PX), 1)) for line in text.split("\n"))


def _write(path: Path, picture: Image) -> Path:
    imageio.imwrite(path, picture)
    return path
