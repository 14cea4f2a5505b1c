"""F4: what the rate of each arm may be, as violins, with letters for what a test tells apart."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vla_bench.account.cells import Cell
from vla_bench.account.counted import Counted, Place
from vla_bench.account.figures.figure import (
    CHARACTER_IN,
    COLUMN_WIDTH_IN,
    WIDTH_IN,
    Figure,
    Look,
    looks,
    new_drawing,
)
from vla_bench.account.statistics import letters, posterior_density
from vla_bench.account.tables.table import ARM_COLUMNS, MARK, arm_numbers
from vla_bench.types import Arm, Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

PANEL_HEIGHT_IN = 1.9
UPRIGHT = 8  # violins beside each other; the names of more are turned,
TURNED_CHARACTERS = 20  # in lines of so many
RATES = np.linspace(0, 1, 201)


def figures(counted: Counted) -> Iterator[Figure]:
    """`posteriors`: a panel a suite, a violin an arm."""
    places = [place for place in counted.unvaried if any(cell.n for cell in place.cells)]
    if not places:
        return
    told = {place.name: letters_of(place, counted.confidence) for place in places}
    yield Figure(
        name="posteriors", title="What the rates may be",
        caption=(
            "Violins: posterior of the rate under a uniform prior, Beta(successes + 1, failures + 1); dots: "
            "the rates themselves, of unvaried episodes, each with the same weight.",
            f"Arms of a suite that share a letter do not differ (p Holm at least "
            f"{1 - counted.confidence:.3g} over its pairs; exact McNemar where they share episodes).",
        ),
        header=("suite", *ARM_COLUMNS, "successes", "n", "rate", "letters", "q05", "q50", "q95", "errors"),
        rows=tuple(
            (
                place.suite, *arm_numbers(cell.arm), cell.successes, cell.n, cell.rate,
                told[place.name][cell.arm], *_quantiles(cell), cell.errors,
            )
            for place in places
            for cell in place.cells
            if cell.n
        ),
        draw=partial(_draw, places, told, looks(counted.arms)),
    )  # fmt: skip


def letters_of(place: Place, confidence: float) -> dict[Arm, str]:
    """Arm → letters, "a" with the best; arms that were compared with nothing have none."""
    cells = sorted((cell for cell in place.cells if cell.n), key=lambda cell: -(cell.rate or 0))
    names = {cell.arm.key: cell.arm for cell in cells}
    p_values = {
        (pair.first.key, pair.second.key): pair.p_holm
        for pair in place.pairs
        if pair.p_holm is not None and {pair.first.key, pair.second.key} <= names.keys()
    }
    compared = [key for key in names if any(key in pair for pair in p_values)]
    found = letters(compared, p_values, 1 - confidence)
    return {arm: found.get(key, "") for key, arm in names.items()}


def _density(cell: Cell) -> Array:
    return posterior_density(cell.successes, cell.n, RATES)


def _quantiles(cell: Cell) -> list[float]:
    from scipy.stats import beta

    return [float(beta.ppf(q, cell.successes + 1, cell.n - cell.successes + 1)) for q in (0.05, 0.5, 0.95)]


def _draw(
    places: Sequence[Place], told: Mapping[str, Mapping[Arm, str]], drawn_as: Mapping[Arm, Look]
) -> Drawing:
    violins = max(sum(cell.n > 0 for cell in place.cells) for place in places)
    across = 1 if violins > 6 else min(2, len(places))
    down = -(-len(places) // across)
    width = WIDTH_IN if across > 1 or violins > 6 else COLUMN_WIDTH_IN
    turned_in = CHARACTER_IN * TURNED_CHARACTERS if violins > UPRIGHT else 0.0
    drawing = new_drawing(width, down * (PANEL_HEIGHT_IN + turned_in) + 0.2)
    panels = drawing.subplots(down, across, sharey=True, squeeze=False).flatten()
    for panel, place in zip(panels, places, strict=False):
        cells = [cell for cell in place.cells if cell.n]
        _draw_panel(panel, cells, told[place.name], drawn_as)
        panel.set_title(place.suite, loc="left")
    for panel in panels[len(places) :]:
        panel.remove()
    drawing.supylabel("success, %", fontsize=7)
    return drawing


def _draw_panel(
    panel: Axes, cells: Sequence[Cell], told: Mapping[Arm, str], drawn_as: Mapping[Arm, Look]
) -> None:
    for x, cell in enumerate(cells):
        look, density = drawn_as[cell.arm], _density(cell)
        half = 0.42 * density / density.max()
        seen = density > 1e-3 * density.max()
        panel.fill_betweenx(
            100 * RATES[seen], x - half[seen], x + half[seen], color=look.colour, alpha=0.35, linewidth=0
        )
        panel.plot([x], [100 * cell.successes / cell.n], marker=look.marker, color=look.colour, clip_on=False)
        panel.annotate(
            f"{told[cell.arm]}{f' {MARK}' if cell.errors else ''}", (x, 104), ha="center", va="bottom",
            fontweight="bold", annotation_clip=False,
        )  # fmt: skip
    upright = len(cells) <= UPRIGHT
    labels = [drawn_as[cell.arm].label for cell in cells]
    names = [
        label.replace(" ", "\n") if upright else textwrap.fill(label, TURNED_CHARACTERS) for label in labels
    ]
    panel.set_xticks(range(len(cells)), names, fontsize=6, rotation=0 if upright else 90)
    panel.tick_params(axis="x", length=0)
    panel.grid(axis="x", visible=False)
    panel.set_xlim(-0.6, len(cells) - 0.4)
    panel.set_ylim(-2, 112)
    panel.set_yticks([0, 25, 50, 75, 100])
