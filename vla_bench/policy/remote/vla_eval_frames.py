"""vla-eval's frames: MessagePack maps of `type`, `payload`, `seq` and `timestamp`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from vla_bench import __version__
from vla_bench.policy.remote.dialects import VLA_EVAL
from vla_bench.policy.remote.wire import WireError, field, pack, unpack

PROTOCOL_VERSION = 1
TYPES = ("hello", "episode_start", "observation", "action", "episode_end", "error")


@dataclass(frozen=True, slots=True)
class Frame:
    """A message; an answer has the number of its request."""

    type: str
    payload: dict[str, Any]
    seq: int


def write(frame: Frame) -> bytes:
    """Frame → bytes."""
    message = {"type": frame.type, "payload": frame.payload, "seq": frame.seq, "timestamp": time.time()}
    return pack(message, VLA_EVAL.write)


def read(data: bytes | str) -> Frame:
    """Bytes → frame.

    Raises:
        WireError: They are none.
    """
    message = unpack(data, VLA_EVAL.read)
    kind = field(message, "type", str)
    if kind not in TYPES:
        raise WireError(f"a message of type {kind[:40]!r}; known: {', '.join(TYPES)}")
    return Frame(kind, field(message, "payload", dict), field(message, "seq", int))


def hello(**more: Any) -> dict[str, Any]:
    """The payload that both sides greet with."""
    return {"harness_version": f"vla-bench {__version__}", "protocol_version": PROTOCOL_VERSION, **more}
