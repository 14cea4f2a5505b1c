"""Several data sets as one: their pictures and numbers one after the other, if they are alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import ConventionError
from vla_bench.learn.decoded import Numbers
from vla_bench.learn.demonstrations import DataConventions, Demonstrations
from vla_bench.types import Image


class Reel:
    """Pictures of one camera in several arrays, one after the other; copied when they are asked for.

    Attributes:
        size: Height and width.
    """

    def __init__(self, arrays: Sequence[NDArray[np.uint8]]) -> None:
        self._arrays = arrays
        self._begins = np.cumsum([0, *map(len, arrays)])
        self.size: tuple[int, int] = arrays[0].shape[1:3]

    def picture(self, index: int) -> Image:
        """(H, W, 3) a copy of picture `index`."""
        place = int(np.searchsorted(self._begins, index, side="right")) - 1
        return np.array(self._arrays[place][index - self._begins[place]])


def one_after_the_other(parts: Sequence[Numbers]) -> Numbers:
    """The numbers of several data sets as those of one."""
    return Numbers(
        np.concatenate([part.actions for part in parts]),
        {name: np.concatenate([part.proprio[name] for part in parts]) for name in parts[0].proprio},
        np.concatenate([part.lengths for part in parts]),
        *(sum((getattr(part, name) for part in parts), ()) for name in ("instructions", "task_ids", "keys")),
    )


def require_alike(data: Sequence[Demonstrations], cameras: Sequence[str]) -> None:
    """Compare data sets with the first one, as far as training on all of them needs it.

    Raises:
        ConventionError: There is none, one comes twice, or they differ; all differences are named.
    """
    if not data:
        raise ConventionError("training needs at least one data set")
    first = data[0]
    for place, other in enumerate(data[1:], 1):
        if other.source.resolve() in [earlier.source.resolve() for earlier in data[:place]]:
            raise ConventionError(f"{other.source} is named twice")
        sides = [_facts(each.conventions, cameras) for each in (first, other)]
        differing = [
            f"{name} {sides[0][name]} and {sides[1][name]}"
            for name in sides[0]
            if sides[0][name] != sides[1][name]
        ]
        if differing:
            raise ConventionError(
                f"{first.source} and {other.source} do not go together: {'; '.join(differing)}"
            )


def _facts(held: DataConventions, cameras: Sequence[str]) -> dict[str, Any]:
    pictures = {
        f"pictures of {name}": "×".join(map(str, held.cameras[name])) if name in held.cameras else "none"
        for name in cameras
    }
    return {
        "frequency (Hz)": f"{held.fps:g}", "numbers in an action": held.action_size,
        "kind of action": held.action_convention, "proprioception": ", ".join(sorted(held.proprio)) or "none",
        **pictures,
    }  # fmt: skip
