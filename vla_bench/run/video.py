"""Videos of episodes: H.264 in MP4, written while the episode runs."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vla_bench.errors import VlaBenchError
from vla_bench.types import CameraView, Simulation


class Video:
    """Writes one frame a policy step; the file appears under its name only when it is kept.

    A context: what has not been kept at its end is thrown away.

    Args:
        path: Where the video goes.
        simulation: What is filmed, by the first camera of its task.
    """

    def __init__(self, path: Path, simulation: Simulation) -> None:
        import imageio

        task = simulation.task
        self.path, self._simulation = path, simulation
        # H.264 wants even sizes; 16-pixel blocks would be padded otherwise
        self._view = CameraView(task.cameras[0], task.observation_height_px, task.observation_width_px)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._draft = path.with_name(f".{path.stem}.draft.mp4")
        self._writer: Any = imageio.get_writer(
            self._draft, format="FFMPEG", mode="I", fps=1 / task.policy_period_s, codec="libx264",
            pixelformat="yuv420p", macro_block_size=2, quality=7,
        )  # fmt: skip

        self._frames = 0

    def add_frame(self) -> None:
        """Film the present."""
        frame: np.ndarray = self._simulation.observe([self._view]).images[self._view.name]
        self._writer.append_data(frame)
        self._frames += 1

    def keep(self) -> Path | None:
        """Finish the file and return its path, or None if nothing was filmed.

        Raises:
            VlaBenchError: Not all of it could be written.
        """
        self._writer.close()
        if not self._frames:
            return None
        if self._frames_on_disk() != self._frames:  # the encoder says nothing when the disk is full
            raise VlaBenchError(f"{self.path}: the video could not be written; is the disk full?")
        return self._draft.replace(self.path)

    def _frames_on_disk(self) -> int:
        import imageio_ffmpeg

        try:
            return imageio_ffmpeg.count_frames_and_secs(self._draft)[0] or 0
        except (OSError, RuntimeError):
            return 0

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._draft.unlink(missing_ok=True)
