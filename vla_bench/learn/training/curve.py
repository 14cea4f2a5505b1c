"""The curve of a training: a line of numbers every few steps, as CSV and as a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS: tuple[str, ...] = (
    "step", "samples", "minutes", "loss", "token_accuracy", "distance", "gradient_norm", "learning_rate",
    "samples_per_s", "waiting_share", "held_out_loss", "held_out_token_accuracy", "held_out_distance",
)  # fmt: skip


class Curve:
    """`curve.csv` and `curve.png` in a folder.

    Args:
        folder: Of the training.
        step: Lines after it belong to steps that were lost, and are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / "curve.csv"
        self.rows = [row for row in read_curve(folder) if int(row["step"]) <= step]
        with self._path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a line; what it does not name is empty."""
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, restval="").writerow(
                {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
            )


def read_curve(folder: Path) -> list[dict[str, str]]:
    """Return the lines of a training's curve."""
    path = folder / "curve.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def draw_curve(folder: Path) -> Path:
    """Draw loss and token accuracy over the steps; returns the picture."""
    from matplotlib.figure import Figure

    rows = read_curve(folder)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, name, label in zip(
        figure.subplots(1, 2), ("loss", "token_accuracy"), ("loss", "token accuracy"), strict=True
    ):
        for column, style in ((name, "-"), (f"held_out_{name}", "o")):
            known = [row for row in rows if row[column]]
            if known:
                kind = "held out" if column.startswith("held") else "training"
                axes.plot(
                    [int(row["step"]) for row in known],
                    [float(row[column]) for row in known],
                    style,
                    label=kind,
                    ms=3,
                )
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    path = folder / "curve.png"
    figure.savefig(path, dpi=120)
    return path
