"""The layout of a LeRobot data set, version 3.0: names of files, columns and keys.

`meta/info.json` says what there is; `meta/episodes/…` has one row an episode, with the file and the place in
it that hold its numbers (`data/…`) and its pictures (`videos/…`). Here every episode has files of its own,
so that one that is being written cannot damage another. What LeRobot has no word for is in
`meta/vla_bench.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from vla_bench.config import FileModel, parse
from vla_bench.errors import DataError, MissingDataError
from vla_bench.lerobot.conventions import DELTA_POSE, Declaration
from vla_bench.lerobot.pictures import ENCODINGS
from vla_bench.lerobot.state import STATE_FIELDS

VERSION = "v3.0"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
OURS = "meta/vla_bench.json"
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES = f"meta/episodes/{FILE}.parquet"
DATA = f"data/{FILE}.parquet"
VIDEOS = f"videos/{{video_key}}/{FILE}.mp4"
FILES_PER_CHUNK = 1000

STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
KEY, TASK_ID, LEVELS = "vla_bench/episode", "vla_bench/task_id", "vla_bench/levels/"
FACTS = "vla_bench/fact/"
COUNTERS = {
    "timestamp": "float32",
    **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64"),
}


class Ours(FileModel):
    """`meta/vla_bench.json`.

    Attributes:
        conventions: What the data set declares; anybody may write this into a data set of theirs.
        made_with: What it was recorded with; a recording goes on only with the same.
        tried: Key of every episode that was tried → what became of it.
    """

    conventions: Declaration
    made_with: dict[str, Any] = Field(default_factory=dict)
    tried: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """What every episode of a data set has.

    Attributes:
        fps: Observations and actions a second.
        cameras: Name → height and width.
        encoding: How pictures are stored, a name in `pictures.ENCODINGS`.
        state: Names of the observed numbers; by default LIBERO's eight.
        action: Names of an action's numbers, and its `action_convention` as in a card.
        more: Further numbers of each frame, one each: name → dtype.
    """

    fps: float
    cameras: Mapping[str, tuple[int, int]]
    encoding: str
    state: tuple[str, ...] = STATE_FIELDS
    action: tuple[str, ...] = tuple(DELTA_POSE)
    action_convention: str = "delta_pose"
    more: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        cameras = ", ".join(f"{name} {height}×{width}" for name, (height, width) in self.cameras.items())
        return f"{self.fps:g} Hz, {cameras}, pictures as {self.encoding}"

    @property
    def declaration(self) -> Declaration:
        """What our recordings declare."""
        cameras = {name: IMAGES + name for name in self.cameras}
        state = "libero" if self.state == STATE_FIELDS else None
        return Declaration(
            action_convention=self.action_convention, cameras=cameras, pictures="upright", state=state
        )

    @property
    def features(self) -> dict[str, Any]:
        """The table of `info.json`."""
        films = {IMAGES + name: self._film(size) for name, size in self.cameras.items()}
        numbers = {
            STATE: {"dtype": "float32", "shape": [len(self.state)], "names": list(self.state)},
            ACTION: {"dtype": "float32", "shape": [len(self.action)], "names": list(self.action)},
        }
        counters = {
            name: {"dtype": dtype, "shape": [1], "names": None}
            for name, dtype in {**self.more, **COUNTERS}.items()
        }
        return {**films, **numbers, **counters}

    def _film(self, size: tuple[int, int]) -> dict[str, Any]:
        info = {
            "video.height": size[0], "video.width": size[1], "video.codec": "h264",
            "video.pix_fmt": ENCODINGS[self.encoding].stored, "video.is_depth_map": False,
            "video.fps": _whole(self.fps), "video.channels": 3, "has_audio": False,
        }  # fmt: skip
        return {"dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"], "info": info}

    def info(self, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
        """The content of `info.json`."""
        return {
            "codebase_version": VERSION, "robot_type": "panda", "total_episodes": episodes,
            "total_frames": frames, "total_tasks": tasks, "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": 100, "video_files_size_in_mb": 200, "fps": _whole(self.fps),
            "splits": {"train": f"0:{episodes}"}, "data_path": DATA, "video_path": VIDEOS,
            "features": self.features,
        }  # fmt: skip


def place(index: int) -> dict[str, int]:
    """Chunk and file of episode `index`, for the path templates."""
    return dict(zip(("chunk_index", "file_index"), divmod(index, FILES_PER_CHUNK), strict=True))


def read_ours(folder: Path) -> Ours | None:
    """Read `meta/vla_bench.json`, or return None where there is none.

    Raises:
        DataError: It is no JSON, or has unknown, missing or wrong keys.
    """
    path = folder / OURS
    return parse(Ours, read_json(path), path) if path.is_file() else None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        MissingDataError, DataError: There is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise DataError(path, f"is damaged or half-written: {error}") from error
    if not isinstance(found, dict):
        raise DataError(path, f"holds {type(found).__name__}, expected an object")
    return found


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside `path`, then give it its name: nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    write(draft)
    draft.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object as a whole."""
    text = json.dumps(content, indent=4, ensure_ascii=False) + "\n"
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def _whole(number: float) -> float:
    """LeRobot's frequencies are integers."""
    return int(number) if float(number).is_integer() else number
