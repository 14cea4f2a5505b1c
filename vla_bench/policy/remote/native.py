"""What our server and our client say to each other inside every protocol, under the key `vla_bench`.

A client of ours sends what the policy's own specification asks for, under the simulator's names, and gets
commands. Nothing is converted on the way: the actions are those of the policy in this process, bit for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from vla_bench.errors import ConventionError
from vla_bench.policy.base import PolicySpec
from vla_bench.policy.remote.conventions import require_picture
from vla_bench.policy.remote.wire import WireError, field
from vla_bench.types import Array, Observation, PrecisionReport

KEY = "vla_bench"
VERSION = 1
MAX_TEXT = 4_000


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who serves, and what it wants to see.

    Attributes:
        policy, precision: By their names on the server.
        spec: Of the policy; `chunk_length` is how many actions an answer has.
        report: What the precision came to there.
    """

    policy: str
    precision: str
    spec: PolicySpec
    report: PrecisionReport | None = None

    def to_plain(self) -> dict[str, Any]:
        """As it is sent."""
        return {"version": VERSION, **dataclasses.asdict(self)}


class _Greeting(BaseModel):
    """As it is received; a later version may say more."""

    model_config = ConfigDict(extra="ignore")
    policy: str
    precision: str
    spec: PolicySpec
    report: PrecisionReport | None = None


def read_greeting(found: Any, theirs: str) -> Greeting | None:
    """What the server says of itself; None where it is not one of ours.

    Raises:
        ConventionError: It speaks another version, or says something impossible.
    """
    if found is None:
        return None
    version = found.get("version") if isinstance(found, Mapping) else found
    if version != VERSION:
        raise ConventionError(
            f"{theirs} speaks version {version!r:.40} of vla_bench's part, this is {VERSION}"
        )
    try:
        read = TypeAdapter(_Greeting).validate_python(found)
    except ValidationError as error:
        raise ConventionError(f"{theirs} greets with something impossible: {error}") from error
    return Greeting(read.policy, read.precision, read.spec, read.report)


@dataclass(frozen=True, slots=True)
class EpisodeId:
    """Which episode a request belongs to.

    Attributes:
        name: Of this episode of this client; never used again.
        instruction, seed: As in `Policy.reset`.
        request: How many requests came before in the episode.
    """

    name: str
    instruction: str
    seed: int
    request: int


def request(episode: EpisodeId, history: Sequence[Observation], spec: PolicySpec) -> dict[str, Any]:
    """What a client of ours sends, with arrays still as arrays."""
    seen = [
        {
            "images": {name: each.images[name] for name in spec.cameras},
            "proprio": {name: np.asarray(each.proprio[name], np.float64) for name in spec.proprio},
            "instruction": each.instruction,
            "time_ns": each.time_ns,
        }
        for each in history
    ]
    # a seed has up to 63 bits, and JSON's numbers in other languages do not
    return {"episode": {**dataclasses.asdict(episode), "seed": str(episode.seed)}, "history": seen}


def read_request(found: Any, spec: PolicySpec) -> tuple[EpisodeId, list[Observation]]:
    """What a client of ours sent.

    Raises:
        WireError: It is not what the policy's specification asks for.
    """
    head, history = field(found, "episode", dict), field(found, "history", list)
    seed = field(head, "seed", str)
    if not seed.isdecimal() or len(seed) > 19:
        raise WireError(f"the seed is {seed[:40]!r}, a whole number of up to 63 bits is expected")
    name, instruction = (field(head, key, str) for key in ("name", "instruction"))
    episode = EpisodeId(name[:100], _text(instruction), int(seed), field(head, "request", int))
    if len(history) != spec.history:
        raise WireError(f"{len(history)} observations in the history, the policy takes {spec.history}")
    return episode, [_observation(each, spec) for each in history]


def answer(actions: Array, timings_ms: Mapping[str, float]) -> dict[str, Any]:
    """What our server answers, with arrays still as arrays."""
    return {"actions": np.asarray(actions, np.float64), "timings_ms": dict(timings_ms)}


def read_timings(found: Any) -> dict[str, float]:
    """Phase → milliseconds that a server reports; what is no such number is left out."""
    if not isinstance(found, Mapping):
        return {}
    numbers = {str(k): float(v) for k, v in found.items() if isinstance(v, int | float)}
    return {name: ms for name, ms in numbers.items() if np.isfinite(ms) and ms >= 0}


def _observation(found: Any, spec: PolicySpec) -> Observation:
    images, proprio = field(found, "images", dict), field(found, "proprio", dict)
    for what, has, wants in (("cameras", images, spec.cameras), ("proprioception", proprio, spec.proprio)):
        if missing := sorted(set(wants) - set(has)):
            raise WireError(f"{what} {missing} are missing; the observation has {sorted(map(str, has))[:12]}")
    for name in spec.proprio:
        value = proprio[name]
        if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.ndim != 1:
            raise WireError(f"proprioception {name!r} is no float64 array of one dimension")
    for name in spec.cameras:
        if require_picture(images[name], name).shape[:2] != tuple(spec.image_px):
            raise WireError(f"picture {name!r} is {images[name].shape[:2]}, the policy takes {spec.image_px}")
    return Observation(
        {name: images[name] for name in spec.cameras},
        {name: proprio[name] for name in spec.proprio},
        _text(field(found, "instruction", str)),
        field(found, "time_ns", int),
    )


def _text(value: str) -> str:
    if len(value) > MAX_TEXT:
        raise WireError(f"a text of {len(value)} characters; {MAX_TEXT} are allowed")
    return value
