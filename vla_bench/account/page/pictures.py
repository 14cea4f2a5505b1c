"""Figures of a report as the page shows them: files beside it, or part of it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vla_bench.account.figures import Figure

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
_VIEW_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_PT_TO_PX = 1.3 * 96 / 72  # larger than in print, for the small print of a paper is read from nearer


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure on the page.

    Attributes:
        source: What the page shows: an address, or the file itself.
        width_px, height_px: On the page, so that nothing moves while it loads.
    """

    figure: Figure
    source: str
    width_px: int
    height_px: int


def picture(figure: Figure, folder: Path, addresses: Mapping[str, str], *, inlined: bool) -> Picture:
    """A figure whose files are among those that a report wrote; `addresses` are theirs by name.

    Raises:
        OSError: The file cannot be read.
    """
    drawn = folder / "figures" / f"{figure.name}.svg"
    size = _VIEW_BOX.search(drawn.read_text(encoding="utf-8"))
    width_px, height_px = (round(float(length) * _PT_TO_PX) for length in size.groups()) if size else (0, 0)
    source = addresses[drawn.name]
    if inlined:
        smaller = min(drawn, drawn.with_suffix(".png"), key=lambda path: path.stat().st_size)
        data = base64.b64encode(smaller.read_bytes()).decode()
        source = f"data:{_TYPES[smaller.suffix]};base64,{data}"
    return Picture(figure, source, width_px, height_px)
