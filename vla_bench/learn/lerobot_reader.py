"""Reads LeRobot data sets, version 3: our recordings and anybody's."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_bench.errors import ConventionError, DataError
from vla_bench.learn.demonstrations import DataConventions, Deeds, upright
from vla_bench.lerobot.conventions import Declaration
from vla_bench.lerobot.layout import (
    ACTION,
    FACTS,
    IMAGES,
    INFO,
    KEY,
    LEVELS,
    STATE,
    TASK_ID,
    read_json,
    read_ours,
)
from vla_bench.lerobot.pictures import read_film
from vla_bench.lerobot.state import STATE_NAMES, STATE_SIZE, proprio_of
from vla_bench.lerobot.tables import read_columns, read_rows
from vla_bench.types import Array, Episode, Image, Observation


class LeRobotDemonstrations:
    """The episodes of a LeRobot folder.

    Args:
        folder: Holds `meta/`, `data/` and, where pictures are films, `videos/`.

    Raises:
        DataError: It is empty, half-written, damaged, or of another version than 3.
    """

    def __init__(self, folder: Path) -> None:
        self.source = folder
        self.info = read_json(folder / INFO)
        _check_version(folder, self.info)
        ours = read_ours(folder)
        self.declaration = None if ours is None else ours.conventions
        self.features: dict[str, Any] = self.info["features"]
        self._rows = self._episodes()
        self.conventions = self._conventions(self.declaration)
        self._last: tuple[Path, dict[str, Any]] | None = None

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._rows)

    def __iter__(self) -> Iterator[LeRobotEpisode]:
        """Yield the episodes in order."""
        return (LeRobotEpisode(self, row) for row in self._rows)

    def feature(self, camera: str) -> str:
        """Name of a camera's feature."""
        return self.declaration.cameras[camera] if self.declaration else IMAGES + camera

    def columns(self, row: dict[str, Any]) -> dict[str, Any]:
        """Columns of one episode's numbers (and pictures in PNG or JPEG, where it has such), by frame.

        Raises:
            DataError: They are not all there.
        """
        path = self.source / self.info["data_path"].format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
        if self._last is None or self._last[0] != path:
            self._last = (path, read_columns(path))
        table = self._last[1]
        chosen = np.flatnonzero(table["episode_index"] == row["episode_index"])
        chosen = chosen[np.argsort(table["frame_index"][chosen], kind="stable")]
        if not np.array_equal(table["frame_index"][chosen], np.arange(row["length"])):
            found, wanted = len(chosen), f"{row['length']} of episode {row['episode_index']}"
            raise DataError(path, f"has {found} frames where meta/episodes names {wanted}; half-written?")
        return {name: column[chosen] for name, column in table.items()}

    def _episodes(self) -> list[dict[str, Any]]:
        files = sorted((self.source / "meta/episodes").glob("*/*.parquet"))
        rows: list[dict[str, Any]] = []
        for file in files:
            rows += read_rows(file, ("stats/", LEVELS))
        rows.sort(key=lambda row: row["episode_index"])
        promised = self.info["total_episodes"]
        if len(rows) != promised:
            raise DataError(
                self.source / INFO,
                f"names {promised} episodes, meta/episodes holds {len(rows)}: the recording was interrupted; "
                "the command that recorded it, run again, completes it",
            )
        if not rows:
            raise DataError(self.source, "holds no episode yet; nothing was kept")
        return rows

    def _conventions(self, declared: Declaration | None) -> DataConventions:
        pictured = {k: f for k, f in self.features.items() if f["dtype"] in ("video", "image")}
        names = declared.cameras if declared else {key.removeprefix(IMAGES): key for key in pictured}
        if absent := sorted(set(names.values()) - set(pictured)):
            raise DataError(self.source, f"declares cameras {absent}; its pictures are {sorted(pictured)}")
        if ACTION not in self.features:
            raise DataError(self.source / INFO, f"has no {ACTION!r}; it has {sorted(self.features)}")
        has_state = declared is not None and declared.state is not None
        stored = self.features.get(STATE, {}).get("shape", [0])
        if has_state and list(stored) != [STATE_SIZE]:
            raise DataError(
                self.source, f"declares LIBERO's state of {STATE_SIZE} numbers, {STATE} is {stored}"
            )
        return DataConventions(
            fps=float(self.info["fps"]),
            cameras={name: _size(pictured[key]) for name, key in names.items()},
            action_size=self.features[ACTION]["shape"][0],
            action_convention=declared.action_convention if declared else None,
            proprio=STATE_NAMES if has_state else (),
        )


@dataclass(frozen=True, slots=True)
class LeRobotEpisode:
    """One episode; see `demonstrations.Demonstration`."""

    data: LeRobotDemonstrations
    row: dict[str, Any]

    @property
    def key(self) -> str:
        """Our episode's key, or LeRobot's number."""
        return self.row.get(KEY) or f"episode {self.row['episode_index']}"

    @property
    def task_id(self) -> str:
        """Our task's id, where it is our recording."""
        return self.row.get(TASK_ID) or ""

    @property
    def instruction(self) -> str:
        """What was asked for."""
        return self.row["tasks"][0]

    @property
    def actions(self) -> Array:
        """(T, A) as they were recorded."""
        return np.stack(self.data.columns(self.row)[ACTION]).astype(np.float64)

    @property
    def deeds(self) -> Deeds:
        """See `demonstrations.Demonstration`."""
        seed, noise, astray = (self.row.get(FACTS + name) for name in ("seed", "noise", "astray_steps"))
        if seed is None:
            raise DataError(self.data.source, f"does not say how {self.key} began: it cannot be done again")
        if self.row.get(FACTS + "round") is not None:
            raise DataError(
                self.data.source,
                f"{self.key} holds what the expert would have done where a policy acted: its actions are not "
                "what was executed, and cannot be done again",
            )
        if noise or astray:
            raise DataError(
                self.data.source,
                f"{self.key} was recorded with noise {noise:g} and {astray:g} steps astray: its actions are "
                "not what was executed, and done again they lead elsewhere",
            )
        return Deeds(Episode(self.task_id, seed=int(seed)), self.actions)

    def observations(self, cameras: Sequence[str] = ()) -> Iterator[Observation]:
        """Yield T observations; see `demonstrations.Demonstration`."""
        columns, held = self.data.columns(self.row), self.data.conventions
        if absent := sorted(set(cameras) - set(held.cameras)):
            raise ConventionError(f"{self.data.source}: no camera {absent}; it has {sorted(held.cameras)}")
        films = {name: self._pictures(self.data.feature(name), columns) for name in cameras}
        stored = self.data.declaration.pictures if self.data.declaration else "upright"
        for index in range(self.row["length"]):
            images = {name: upright(next(film), stored) for name, film in films.items()}
            proprio = proprio_of(columns[STATE][index]) if held.proprio else {}
            yield Observation(images, proprio, self.instruction, round(index / held.fps * 1e9))

    def _pictures(self, feature: str, columns: dict[str, Any]) -> Iterator[Image]:
        if self.data.features[feature]["dtype"] == "image":
            return (_decoded(value, self.data.source) for value in columns[feature])
        place = {name: self.row[f"videos/{feature}/{name}"] for name in ("chunk_index", "file_index")}
        path = self.data.source / self.data.info["video_path"].format(video_key=feature, **place)
        start_s = self.row[f"videos/{feature}/from_timestamp"]
        return read_film(path, self.row["length"], self.data.conventions.fps, start_s)


def _check_version(folder: Path, info: dict[str, Any]) -> None:
    version = str(info.get("codebase_version"))
    if version.partition(".")[0] != "v3":
        raise DataError(
            folder / INFO,
            f"is a LeRobot data set {version}; v3.0 is read (LeRobot has a converter from v2.1)",
        )
    needed = {"fps", "features", "total_episodes", "data_path"}
    if missing := sorted(needed - set(info)):
        raise DataError(folder / INFO, f"lacks {', '.join(missing)}")


def _size(feature: dict[str, Any]) -> tuple[int, int]:
    """Height and width, whichever way round the shape is stored."""
    sizes = dict(zip(feature.get("names") or ("height", "width", "channels"), feature["shape"], strict=True))
    short = {name[0]: size for name, size in sizes.items()}  # height, h; width, w
    return short["h"], short["w"]


def _decoded(value: dict[str, Any], source: Path) -> Image:
    from PIL import Image as Pillow

    try:
        return np.asarray(Pillow.open(io.BytesIO(value["bytes"])).convert("RGB"))
    except (OSError, TypeError) as error:
        raise DataError(source, f"holds a picture that cannot be decoded: {error}") from error
