"""Where the arrays of a msgpack file lie, as flax writes it, without reading any of them.

The file is walked, not decoded: the library would build everything at once, and make room for whatever a
length claims. Here a length is only compared with what is left of the file, so that a broken or hostile file
costs nothing but an error that names the byte.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from vla_bench.errors import DataError, MissingDataError, suggest

# A checkpoint has some hundreds of entries, a few levels deep.
MAX_ENTRIES = 100_000
MAX_DEPTH = 32
MAX_DIMENSIONS = 8
# flax's extension types; 2 is a complex number, which no checkpoint of this family has
ARRAY, SCALAR = 1, 3
DTYPES = {
    "float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16,
    "int64": torch.int64, "int32": torch.int32, "int16": torch.int16, "int8": torch.int8,
    "uint8": torch.uint8, "bool": torch.bool,
}  # fmt: skip

# first byte → kind and number of bytes of the length that follows
_SIZED = {
    0xD9: ("text", 1), 0xDA: ("text", 2), 0xDB: ("text", 4), 0xC4: ("bytes", 1), 0xC5: ("bytes", 2),
    0xC6: ("bytes", 4), 0xC7: ("extension", 1), 0xC8: ("extension", 2), 0xC9: ("extension", 4),
    0xDC: ("list", 2), 0xDD: ("list", 4), 0xDE: ("map", 2), 0xDF: ("map", 4),
}  # fmt: skip
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


@dataclass(frozen=True, slots=True)
class PackedArray:
    """An array in a file: plain bytes in C order, from byte `start` on."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    start: int


Leaf = PackedArray | str | int | float | bool | None


def packed_leaves(path: Path) -> dict[str, Leaf]:
    """Return what a msgpack file of nested maps holds; the names of the levels are joined with "/".

    Raises:
        MissingDataError: There is no such file.
        DataError: It is truncated, or holds something else; names the byte.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return _Walk(path, view).leaves()
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # a folder; an empty file cannot be mapped
        raise DataError(path, f"cannot be read as msgpack: {error}") from error


class _Walk:
    """A position in a file, which only moves forward and never past the end."""

    def __init__(self, path: Path, view: mmap.mmap) -> None:
        self._path, self._view = path, view
        self._at, self._end = 0, len(view)
        self._entries = 0

    def leaves(self) -> dict[str, Leaf]:
        """Walk the whole file."""
        found = dict(self._below((), self._head()))
        if self._at != self._end:
            raise self._error(f"expected the end of the file, found {self._end - self._at} more bytes")
        return found

    def _below(self, name: tuple[str, ...], head: tuple[str, int]) -> Iterator[tuple[str, Leaf]]:
        """The leaves of a map whose head has just been read."""
        kind, length = head
        if kind != "map":
            raise self._error(f"expected a map at {'/'.join(name) or 'the top'!r}, found {_a(kind)}")
        if len(name) > MAX_DEPTH:
            raise self._error(f"maps are more than {MAX_DEPTH} deep")
        keys: set[str] = set()
        for _ in range(length):
            key = self._key(keys)
            keys.add(key)
            head = self._head()
            if head[0] == "map":
                yield from self._below((*name, key), head)
            else:
                yield "/".join((*name, key)), self._leaf(head)

    def _key(self, before: set[str]) -> str:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise self._error(f"more than {MAX_ENTRIES} entries")
        kind, length = self._head()
        if kind != "text":
            raise self._error(f"expected a name, found {_a(kind)}")
        key = self._text(length)
        if not key or "/" in key or key in before:
            problem = "given twice" if key in before else "empty, or holds a slash"
            raise self._error(f"the name {key!r} is {problem}")
        return key

    def _leaf(self, head: tuple[str, int]) -> Leaf:
        kind, length = head
        if kind == "extension":
            return self._array(length)
        if kind == "text":
            return self._text(length)
        if kind == "number":
            (number,) = struct.unpack(_NUMBERS[length], self._take(struct.calcsize(_NUMBERS[length]), kind))
            return number
        if kind == "small number":
            return length
        if kind == "constant":
            return _CONSTANTS[length]
        raise self._error(f"expected an array, a text or a number, found {_a(kind)}")

    def _array(self, length: int) -> PackedArray:
        (kind,) = self._take(1, "the type of an extension")
        if kind not in (ARRAY, SCALAR):
            raise self._error(f"expected an array (extension {ARRAY} or {SCALAR}), found extension {kind}")
        self._require(length, "an array")
        end = self._at + length
        self._expect("list", 3, "shape, type and bytes of an array")
        shape = self._shape()
        kind, size = self._head()
        if kind not in ("text", "bytes"):
            raise self._error(f"expected the name of a type, found {_a(kind)}")
        name = self._text(size)
        if name not in DTYPES:
            raise self._error(f"unknown type of numbers {name!r}{suggest(name, DTYPES)}")
        kind, size = self._head()
        needed = math.prod(shape) * DTYPES[name].itemsize
        if kind != "bytes" or size != needed or self._at + size != end:
            found = f"{size} bytes" if kind == "bytes" else _a(kind)
            raise self._error(f"an array of {name} and shape {shape} needs {needed} bytes, found {found}")
        array = PackedArray(shape, DTYPES[name], self._at)
        self._at = end
        return array

    def _shape(self) -> tuple[int, ...]:
        kind, dimensions = self._head()
        if kind != "list" or dimensions > MAX_DIMENSIONS:
            raise self._error(f"expected a shape of at most {MAX_DIMENSIONS} numbers, found {_a(kind)}")
        shape = [self._leaf(self._head()) for _ in range(dimensions)]
        if not all(type(n) is int and n >= 0 for n in shape):
            raise self._error(f"expected a shape, found {shape}")
        return tuple(n for n in shape if isinstance(n, int))

    def _expect(self, kind: str, length: int, what: str) -> None:
        found = self._head()
        if found != (kind, length):
            raise self._error(f"expected {what}, found {_a(found[0])}")

    def _head(self) -> tuple[str, int]:
        """Read a first byte and its length: what comes, and how many entries or bytes of it."""
        (byte,) = self._take(1, "a value")
        if byte in _SIZED:
            kind, width = _SIZED[byte]
            length = int.from_bytes(self._take(width, "a length"), "big")
            if kind in ("text", "bytes"):
                self._require(length, _a(kind))
            return kind, length
        if byte in _NUMBERS:
            return "number", byte
        if byte in _CONSTANTS:
            return "constant", byte
        if 0xD4 <= byte <= 0xD8:
            return "extension", 1 << (byte - 0xD4)
        if byte == 0xC1:
            raise self._error("found the byte c1, which msgpack never uses")
        for low, kind in ((0xE0, "negative"), (0xA0, "text"), (0x90, "list"), (0x80, "map")):
            if byte >= low:
                return (kind, byte - low) if kind != "negative" else ("small number", byte - 256)
        return "small number", byte

    def _text(self, length: int) -> str:
        try:
            return self._take(length, "a text").decode()
        except UnicodeDecodeError as error:
            raise self._error("a name or text is not UTF-8") from error

    def _take(self, length: int, what: str) -> bytes:
        self._require(length, what)
        self._at += length
        return self._view[self._at - length : self._at]

    def _require(self, length: int, what: str) -> None:
        left = self._end - self._at
        if length > left:
            raise self._error(f"truncated: {what} of {length} bytes is expected, {left} are left")

    def _error(self, problem: str) -> DataError:
        return DataError(self._path, f"at byte {self._at}: {problem}")


def _a(kind: str) -> str:
    return {"extension": "an extension", "bytes": "bytes", "text": "a text"}.get(kind, f"a {kind}")
