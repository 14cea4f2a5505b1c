"""How four protocols write arrays: a pair of functions each, to and from plain values."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_bench.policy.remote.wire import MAX_BYTES, WireError, array_of

MAX_PIXELS = 4096 * 4096
MAX_NPY_HEADER = 10_000


@dataclass(frozen=True, slots=True)
class Dialect:
    """How arrays are written.

    Attributes:
        write: Array or numpy scalar → plain values; raises TypeError on anything else.
        read: Map → the array that it stands for, or the map itself; raises WireError.
    """

    write: Callable[[Any], Any]
    read: Callable[[dict[Any, Any]], Any]


def _plain(value: Any) -> NDArray[Any]:
    """The array to be written.

    Raises:
        TypeError: It is none, or holds other things than numbers.
    """
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise TypeError(f"{type(value).__name__} cannot be sent: {getattr(value, 'dtype', 'no array')}")
    return np.ascontiguousarray(value) if value.ndim else value


def _write_vla_eval(value: Any) -> dict[str, Any]:
    array = _plain(value)
    return {
        "__ndarray__": True, "data": array.tobytes(), "dtype": array.dtype.str, "shape": list(array.shape),
    }  # fmt: skip


def _read_vla_eval(found: dict[Any, Any]) -> Any:
    if "__image__" in found and found.get("format") != "raw":
        return _decoded_image(found.get("format"), found.get("data"), found.get("shape"))
    if "__ndarray__" in found or "__image__" in found:
        return array_of(found.get("data"), found.get("dtype"), found.get("shape"))
    return found


def _decoded_image(name: Any, data: Any, shape: Any) -> NDArray[np.uint8]:
    """PNG or JPEG → (H, W, C) uint8; the header must agree with the shape before anything is decoded."""
    import PIL.Image

    if name not in ("png", "jpeg") or not isinstance(data, bytes):
        raise WireError(f"a picture in the format {str(name)[:40]!r}; png, jpeg and raw are known")
    try:
        with PIL.Image.open(io.BytesIO(data), formats=[name.upper()]) as opened:
            size, channels = (opened.height, opened.width), len(opened.getbands())
            given = shape[:2] if isinstance(shape, list) else shape
            if size[0] * size[1] > MAX_PIXELS or list(size) != given or channels not in (1, 3, 4):
                raise WireError(f"a picture of {size} pixels with {channels} channels, announced as {shape}")
            return np.asarray(opened, np.uint8).reshape(*size, channels)
    except (OSError, ValueError, TypeError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise WireError(f"a picture that is no {name}: {error}") from error


def _write_openpi(value: Any) -> dict[bytes, Any]:
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    array = _plain(value)
    return {
        b"__ndarray__": True,
        b"data": array.tobytes(),
        b"dtype": array.dtype.str,
        b"shape": list(array.shape),
    }


def _read_openpi(found: dict[Any, Any]) -> Any:
    if b"__ndarray__" in found:
        dtype, shape = found.get(b"dtype"), found.get(b"shape")
        return array_of(found.get(b"data"), dtype, shape)
    if b"__npgeneric__" in found:
        number = found.get(b"data")
        if not isinstance(number, bool | int | float):
            raise WireError(f"a number that is {type(number).__name__}")
        return number
    return found


def _write_gr00t(value: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    np.save(buffer, _plain(value), allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": buffer.getvalue()}


def _read_gr00t(found: dict[Any, Any]) -> Any:
    if "__ndarray_class__" in found:
        return read_npy(found.get("as_npy"))
    if "__ModalityConfig_class__" in found:
        return found.get("as_json")
    return found


def read_npy(data: Any) -> NDArray[Any]:
    """A .npy file's bytes → array; its header is believed only as far as the bytes go.

    Raises:
        WireError: It is no such file, or one of other things than numbers.
    """
    if not isinstance(data, bytes):
        raise WireError(f"an array in {type(data).__name__}")
    file = io.BytesIO(data)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        read_header = readers[np.lib.format.read_magic(file)]
        shape, in_columns, dtype = read_header(file, max_header_size=MAX_NPY_HEADER)
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise WireError(f"an array that is no .npy file: {str(error)[:200]}") from error
    rows = shape[::-1] if in_columns else shape
    array = array_of(data[file.tell() :], dtype.str, list(rows))
    return array.T if in_columns else array


def _write_json(value: Any) -> dict[str, Any]:
    array = _plain(value)
    text = base64.b64encode(array.tobytes()).decode("ascii")
    return {"__numpy__": text, "dtype": array.dtype.str, "shape": list(array.shape)}


def _read_json(found: dict[Any, Any]) -> Any:
    if "__numpy__" not in found:
        return found
    text = found["__numpy__"]
    if not isinstance(text, str) or len(text) > 2 * MAX_BYTES:
        raise WireError("an array that is no base64 text")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"an array that is no base64 text: {error}") from error
    return array_of(data, found.get("dtype"), found.get("shape"))


VLA_EVAL = Dialect(_write_vla_eval, _read_vla_eval)
OPENPI = Dialect(_write_openpi, _read_openpi)
GR00T = Dialect(_write_gr00t, _read_gr00t)
JSON_NUMPY = Dialect(_write_json, _read_json)
