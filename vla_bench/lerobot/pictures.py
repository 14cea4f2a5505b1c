"""Pictures of an episode as an H.264 film, and back.

Two ways to store them. `film`: YUV 4:2:0, which every player shows and which halves the resolution of
colour: a picture comes back 1 to 2 grey levels off on average, edges of saturated colour by many more.
`lossless`: RGB (profile High 4:4:4), 2 to 5 times as large, which decoders read and browsers may not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vla_bench.errors import DataError, MissingDataError, VlaBenchError
from vla_bench.types import Image


@dataclass(frozen=True, slots=True)
class Encoding:
    """How pictures are stored.

    Attributes:
        codec: Encoder of libav.
        pixels: Pixel format that it is given.
        stored: Pixel format of the film.
        crf: Constant rate factor; 0 is lossless.
    """

    codec: str
    pixels: str
    stored: str
    crf: int


ENCODINGS = {
    # Below 10 the film grows and the colour that 4:2:0 loses does not come back.
    "film": Encoding("libx264", "yuv420p", "yuv420p", 10),
    "lossless": Encoding("libx264rgb", "rgb24", "gbrp", 0),
}


class Film:
    """Writes pictures, one after the other; closed at the end of the context.

    Args:
        path: File to write.
        size_px: Height and width, even numbers.
        fps: Pictures a second.
        encoding: How.
    """

    def __init__(self, path: Path, size_px: tuple[int, int], fps: float, encoding: Encoding) -> None:
        import av

        self._path = path
        # bitexact: no version of the library in the file
        self._container: Any = av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"})
        self._stream: Any = self._container.add_stream(
            encoding.codec, rate=Fraction(fps).limit_denominator(1000)
        )
        self._stream.height, self._stream.width = size_px
        self._stream.pix_fmt = encoding.pixels
        # Every other picture is whole, so that any instant is near; no reordering, so that times begin at 0.
        self._stream.options = {"crf": str(encoding.crf), "g": "2", "bf": "0"}
        # The bytes depend on the number of threads.
        self._stream.codec_context.thread_count = 1

    def add(self, picture: Image) -> None:
        """Append an (H, W, 3) picture."""
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        self._write(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file.

        Raises:
            VlaBenchError: It could not be written.
        """
        if self._container is None:
            return
        try:
            self._write(self._stream.encode())
            self._container.close()
        except OSError as error:
            raise VlaBenchError(f"{self._path}: cannot be written: {error.strerror or error}") from error
        finally:
            self._container = None

    def _write(self, packets: Any) -> None:
        for packet in packets:
            self._container.mux(packet)

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_film(path: Path, count: int, fps: float, start_s: float = 0.0) -> Iterator[Image]:
    """Yield `count` pictures (H, W, 3) of a film from `start_s` on, one every 1/fps.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is damaged, ends early, or runs at another rate.
    """
    import av
    from av.error import FFmpegError

    if not path.is_file():
        raise MissingDataError(f"{path}: no such film; the data set names it")
    done = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.time_base is not None
            if start_s > 0:
                container.seek(int(start_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                late_s = float((frame.pts or 0) * stream.time_base) - start_s - done / fps
                if late_s < -0.5 / fps:  # before the start, from the whole picture that a seek goes back to
                    continue
                if late_s > 0.5 / fps:
                    raise DataError(
                        path, f"has no picture {done} at {start_s + done / fps:.3f} s, {fps:g} Hz"
                    )
                yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
                done += 1
                if done == count:
                    return
    except (FFmpegError, IndexError, OSError) as error:
        raise DataError(path, f"is damaged or half-written: {error}") from error
    raise DataError(path, f"ends after {done} of {count} pictures; it is damaged or half-written")
