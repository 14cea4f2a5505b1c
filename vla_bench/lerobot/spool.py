"""Recorded episodes on their way into a data set: a folder each, complete or not there.

Many workers record; a LeRobot data set has one writer. So each episode is written whole into a folder of its
own, and whoever writes the data set takes it from there. What is killed on the way loses nothing that was
complete.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import DataError
from vla_bench.lerobot.draft import Columns, Draft, write_columns
from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.tables import read_columns

_ABOUT, _NUMBERS, _LEVELS = "about.json", "numbers.parquet", "levels.npz"


@dataclass(frozen=True, slots=True)
class About:
    """What an episode is: its key, its suite, task and instruction, and its facts (`lerobot.draft.Kept`)."""

    key: str
    suite: str
    task_id: str
    instruction: str
    facts: Mapping[str, float] = field(default_factory=dict)


class Spooled:
    """A recorded episode that waits; see `lerobot.draft.Kept`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            table = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            self.about, self.layout = About(**table["about"]), _layout(table["layout"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(folder / _ABOUT, f"is no recorded episode: {error}") from error
        self.facts = self.about.facts
        self.films = {name: folder / f"{name}.mp4" for name in self.layout.cameras}
        with np.load(folder / _LEVELS, allow_pickle=False) as stored:
            self.levels: dict[str, NDArray[np.int64]] = {name: stored[name] for name in self.layout.cameras}

    def numbers(self) -> Columns:
        """Columns of what was recorded but the pictures, one row a frame."""
        columns = read_columns(self.folder / _NUMBERS)
        return {name: np.stack(list(x)) if x.dtype == object else x for name, x in columns.items()}


def begin(target: Path, has: Layout, about: About) -> Draft:
    """Begin to record an episode; the folder `target` is there when its draft is kept."""
    place = target.parent
    room = place / f".{target.name}.{platform.node()}.{os.getpid()}"
    for left in place.glob(f".{target.name}.{platform.node()}.*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)

    def keep(key: str, task_id: str, instruction: str, draft: Draft) -> None:
        write_columns(room / _NUMBERS, draft.numbers())
        np.savez_compressed(room / _LEVELS, **draft.levels)  # type: ignore[arg-type]
        table = {"about": asdict(about) | {"instruction": instruction}, "layout": asdict(has)}
        (room / _ABOUT).write_text(json.dumps(table), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)  # of an attempt that has no record
        room.rename(target)

    return Draft(has, room, keep, about.facts)


def _layout(table: dict[str, Any]) -> Layout:
    cameras = {name: (int(size[0]), int(size[1])) for name, size in table.pop("cameras").items()}
    state, action = tuple(table.pop("state")), tuple(table.pop("action"))
    return Layout(cameras=cameras, state=state, action=action, **table)
