"""Bytes from strangers → plain values and arrays of numbers, within bounds, and nothing executed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgpack
import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import VlaBenchError

# A request with two pictures of 256 × 256 is 0.4 MB.
MAX_BYTES = 32 * 2**20
MAX_ELEMENTS = 100_000  # of all maps and lists of a message together: a byte on the wire is ~64 in memory
MAX_LIST = 10_000
MAX_DIMENSIONS = 8
_PLAIN_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")

Plain = Any
OnMap = Callable[[dict[Any, Any]], Any]


class WireError(VlaBenchError):
    """Bytes that are no message, or one that breaks the bounds."""


def unpack(frame: bytes | str, on_map: OnMap = lambda found: found) -> Plain:
    """MessagePack → plain values; `on_map` sees every map and may return what it stands for.

    Raises:
        WireError: The frame is text, too large, or broken, or holds something that is not allowed.
    """
    if isinstance(frame, str):
        raise WireError(f"a text frame ({frame[:80]!r}), where a binary one is expected")
    _require_size(len(frame))
    elements = 0

    def counted(found: Any) -> Any:
        nonlocal elements
        elements += 1 + len(found)
        if elements > MAX_ELEMENTS:
            raise WireError(f"more than {MAX_ELEMENTS} elements in one message")
        return on_map(found) if isinstance(found, dict) else found

    try:
        return msgpack.unpackb(
            frame,
            object_hook=counted,
            list_hook=counted,
            max_array_len=MAX_LIST,
            max_map_len=MAX_LIST,
            max_ext_len=16,
        )
    except (ValueError, TypeError, KeyError, OverflowError, msgpack.UnpackException) as error:
        raise WireError(f"{len(frame)} bytes that are no MessagePack: {_reason(error)}") from error


def pack(value: Plain, default: Callable[[Any], Any]) -> bytes:
    """Plain values → MessagePack; `default` turns arrays into plain values."""
    return cast(bytes, msgpack.packb(value, default=default, use_bin_type=True))


def parse_json(body: bytes, on_map: OnMap = lambda found: found) -> Plain:
    """JSON → plain values; `on_map` sees every map and may return what it stands for.

    Raises:
        WireError: The body is too large or broken, or holds something that is not allowed.
    """
    _require_size(len(body))
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_ELEMENTS:  # arrays are base64, which has none of these
        raise WireError(f"more than {MAX_ELEMENTS} elements in one message")
    try:
        return json.loads(body, object_hook=on_map)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise WireError(f"{len(body)} bytes that are no JSON: {_reason(error)}") from error


def array_of(data: Any, dtype: Any, shape: Any) -> NDArray[Any]:
    """Raw bytes, type and shape → an array of its own, in this machine's byte order.

    Raises:
        WireError: It is no array of plain numbers, or the bytes do not fill the shape.
    """
    if not isinstance(dtype, str) or _PLAIN_DTYPE.fullmatch(dtype) is None:
        raise WireError(f"an array of type {str(dtype)[:40]!r}; plain numbers are allowed (bool, int, float)")
    is_shape = isinstance(shape, list | tuple) and len(shape) <= MAX_DIMENSIONS
    if not is_shape or not all(type(length) is int and 0 <= length <= MAX_BYTES for length in shape):
        raise WireError(f"an array of shape {str(shape)[:80]}")
    kind, count = np.dtype(dtype), 1
    for length in shape:
        count *= length
    if not isinstance(data, bytes) or len(data) != count * kind.itemsize:
        held = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise WireError(f"an array {dtype} of shape {tuple(shape)} in {held}")
    return np.frombuffer(data, kind).reshape(shape).astype(kind.newbyteorder("="))


def field(message: Any, key: str | bytes, kind: type | tuple[type, ...], *, where: str = "message") -> Any:
    """Return an entry of a map, of the given type.

    Raises:
        WireError: It is no map, or the entry is missing or of another type.
    """
    if not isinstance(message, Mapping):
        raise WireError(f"the {where} is {type(message).__name__}, a map is expected")
    if key not in message:
        has = ", ".join(map(str, list(message)[:12])) or "nothing"
        raise WireError(f"{key!r} is missing in the {where}; it has {has}")
    value = message[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise WireError(f"{key!r} in the {where} is {type(value).__name__} ({str(value)[:60]})")
    return value


def _require_size(size: int) -> None:
    if size > MAX_BYTES:
        raise WireError(f"a message of {size} bytes; {MAX_BYTES} are allowed")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}" if str(error) else type(error).__name__
