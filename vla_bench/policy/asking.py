"""An observation from files, and what a policy answers to it: whether a checkpoint is wired right."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_bench.errors import ConventionError, DataError, MissingDataError, UnknownNameError
from vla_bench.policy.base import Explanation, Policy, PolicySpec, explain
from vla_bench.types import Array, Image, Observation


@dataclass(frozen=True, slots=True)
class Answer:
    """What a policy answered to one observation.

    Attributes:
        explanation: The chunk, and what the policy tells of how it came to it.
        first_ms: Whole time of the first call, which may compile and warm up.
        timings_ms: Phase → median over the calls after it; `total` is the whole.
        repeats: Whether every call gave the same commands.
    """

    explanation: Explanation
    first_ms: float
    timings_ms: Mapping[str, float]
    repeats: bool

    def to_json(self) -> dict[str, Any]:
        """The answer as JSON values; what the policy does not tell is None."""
        told = self.explanation
        arrays = {"tokens": told.tokens, "normalised": told.normalised, "physical": told.physical}
        return {
            **{name: None if array is None else array.tolist() for name, array in arrays.items()},
            "units": told.units or None,
            "commands": np.asarray(told.chunk.actions).tolist(),
            "remarks": list(told.remarks),
            "first_ms": self.first_ms,
            "timings_ms": dict(self.timings_ms),
            "repeats": self.repeats,
        }


def ask(policy: Policy, observation: Observation, *, seed: int = 0, calls: int = 3) -> Answer:
    """Let a policy begin an episode and act on one observation, `calls` times after a first time.

    Raises:
        ConventionError: The observation is not what the policy takes.
    """
    told, first_ms, _ = _ask_once(policy, observation, seed)
    repeats, measured = True, []
    for _ in range(calls):
        again, _, timings = _ask_once(policy, observation, seed)
        repeats &= np.array_equal(again.chunk.actions, told.chunk.actions)
        measured.append(timings)
    medians = {name: statistics.median(each[name] for each in measured) for name in measured[0]}
    return Answer(told, first_ms, medians, repeats)


def _ask_once(
    policy: Policy, observation: Observation, seed: int
) -> tuple[Explanation, float, dict[str, float]]:
    policy.reset(observation.instruction, seed)
    began = time.perf_counter()
    told = explain(policy, [observation] * policy.spec.history)
    total_ms = (time.perf_counter() - began) * 1e3
    return told, total_ms, {**told.chunk.timings_ms, "total": total_ms}


@dataclass(frozen=True, slots=True)
class Given:
    """What the user gave.

    Attributes:
        images: Camera → (H, W, 3) uint8; "" is the first camera that the policy looks at.
        proprio: Name → (N,) numbers.
    """

    images: Mapping[str, Image]
    proprio: Mapping[str, Array]


def read_given(pictures: Sequence[str], arrays: Path | None) -> Given:
    """Read what the user gave, before anything large is loaded.

    Args:
        pictures: PNG or JPEG files: `FILE` is the first camera's, `CAMERA=FILE` that of the named one.
        arrays: An .npz file with pictures, (H, W, 3) uint8, and proprioception, by their names.

    Raises:
        MissingDataError, DataError: A file is not there, or cannot be used.
    """
    found = {} if arrays is None else read_arrays(arrays)
    images: dict[str, Image] = {name: value for name, value in found.items() if value.dtype == np.uint8}
    proprio = {name: value.astype(np.float64) for name, value in found.items() if name not in images}
    for text in pictures:
        camera, equals, file = text.partition("=")
        named = equals and not Path(text).is_file()
        images[camera if named else ""] = read_picture(Path(file if named else text))
    return Given(images, proprio)


def observation_of(spec: PolicySpec, given: Given, instruction: str) -> Observation:
    """Make the observation that a policy asks for of what the user gave.

    Raises:
        ConventionError: A picture or a number is missing, or the policy looks at nothing.
        UnknownNameError: A picture is of a camera that it does not look at.
    """
    if spec.privileged or not spec.cameras:
        sees = "the state of a simulation" if spec.privileged else "nothing"
        raise ConventionError(f"this policy looks at no picture; it sees {sees}")
    images = {camera or spec.cameras[0]: image for camera, image in given.images.items()}
    for camera in images:
        if camera not in spec.cameras:
            raise UnknownNameError("camera", camera, spec.cameras, where="of what the policy looks at")
    missing = [f"the camera {name!r}" for name in spec.cameras if name not in images]
    missing += [f"the proprioception {name!r}" for name in spec.proprio if name not in given.proprio]
    if missing:
        found = ", ".join([*images, *given.proprio]) or "nothing"
        raise ConventionError(
            f"the policy needs {' and '.join(missing)}; given: {found}. --image CAMERA=FILE gives a "
            "picture of another camera, --arrays FILE.npz pictures and proprioception by name"
        )
    return Observation(images, given.proprio, instruction, time_ns=0)


def read_picture(path: Path) -> Image:
    """Read a PNG or JPEG file as (H, W, 3) uint8, top row first.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is no picture.
    """
    import PIL.Image
    import PIL.ImageOps

    try:
        with PIL.Image.open(path) as opened:
            # photographs say in their metadata which way is up
            return np.asarray(PIL.ImageOps.exif_transpose(opened).convert("RGB"))
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: no such picture") from error
    except OSError as error:  # of which UnidentifiedImageError is one
        raise DataError(path, f"is not a picture that can be read: {error}") from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the pictures and numbers of an .npz file by name.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is no .npz file, or an array is neither a picture nor numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = dict(data)
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: no such file of observations") from error
    except Exception as error:  # a damaged archive raises anything
        raise DataError(path, f"is not an .npz file of an observation: {error}") from error
    for name, value in arrays.items():
        is_picture = value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3
        if not is_picture and (value.dtype.kind not in "fi" or value.ndim != 1):
            found = f"{value.dtype} of shape {value.shape}"
            raise DataError(path, f"{name!r} is {found}, expected a picture (H, W, 3) uint8 or numbers (N,)")
    return arrays
