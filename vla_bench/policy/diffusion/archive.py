"""Files of `torch.save` whose pickles are read without executing anything."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vla_bench.errors import DataError, MissingDataError
from vla_bench.policy.diffusion.pickles import (
    MAX_BYTES,
    REBUILD,
    STORAGES,
    Record,
    RefusedError,
    Storage,
    read_pickle,
)
from vla_bench.policy.tensors import StoredTensor, read_at

DTYPES = dict(zip(STORAGES, (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
    torch.int8, torch.uint8, torch.bool,
), strict=True))  # fmt: skip
_MAX_MEMBERS = 100_000
_LOCAL_HEADER = 30


@dataclass(frozen=True, slots=True)
class Archive:
    """A file of `torch.save`: what its pickle describes, and where its arrays are.

    Attributes:
        path: The file.
        content: As `read_pickle` returns it.
        arrays: Key → (offset in the file, bytes).
    """

    path: Path
    content: Any
    arrays: Mapping[str, tuple[int, int]]

    def tensors(self, table: Any, what: str) -> dict[str, StoredTensor]:
        """Return the tensors of a table of the content.

        Raises:
            DataError: It is no such table, or a tensor does not lie within its array.
        """
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table):
            raise DataError(self.path, f"{what} is {_kind(table)}, expected a table of tensors")
        return {name: self._tensor(value, f"{what}[{name!r}]") for name, value in table.items()}

    def _tensor(self, value: Any, what: str) -> StoredTensor:
        if isinstance(value, Record) and value.name == "torch._utils._rebuild_parameter" and value.arguments:
            value = value.arguments[0]
        if not isinstance(value, Record) or value.name != REBUILD or len(value.arguments) < 4:
            raise DataError(self.path, f"{what} is {_kind(value)}, expected a tensor")
        storage, offset, size, stride = value.arguments[:4]
        whole = isinstance(storage, Storage) and all(
            isinstance(each, tuple) and all(type(n) is int and n >= 0 for n in each)
            for each in ((offset,), size, stride)
        )
        if not whole or len(size) != len(stride) or len(size) > 8:
            raise DataError(self.path, f"{what} is a tensor that is described wrongly")
        dtype = DTYPES[storage.kind]
        start, held = self._array(storage, dtype)
        extent = 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if 0 not in size else 0
        if (offset + extent) * dtype.itemsize > held:
            raise DataError(self.path, f"{what} reaches beyond its array of {held} bytes")
        at = start + offset * dtype.itemsize
        return StoredTensor(
            self.path, size, dtype, partial(_read, self.path, at, extent, size, stride, dtype)
        )

    def _array(self, storage: Storage, dtype: torch.dtype) -> tuple[int, int]:
        if storage.key not in self.arrays:
            raise DataError(self.path, f"has no array {storage.key[:200]!r}, which its pickle names")
        start, held = self.arrays[storage.key]
        if held != storage.length * dtype.itemsize:
            raise DataError(
                self.path,
                f"array {storage.key!r} has {held} bytes, its pickle says {storage.length * dtype.itemsize}",
            )
        return start, held


def read_archive(path: Path) -> Archive:
    """Read a file of `torch.save`, without its arrays.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is something else, or names something that a checkpoint does not need.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            members = archive.infolist()
            if len(members) > _MAX_MEMBERS:
                raise RefusedError(f"it holds {len(members)} files, at most {_MAX_MEMBERS} are expected")
            root = _root(members)
            _require_plain(members, root)
            content = read_pickle(archive.read(f"{root}/data.pkl"))
            arrays = {
                member.filename.removeprefix(f"{root}/data/"): (_start(file, member), member.file_size)
                for member in members
                if member.filename.startswith(f"{root}/data/")
            }
    except RefusedError as error:
        raise DataError(path, f"refused, {error}") from error
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DataError(path, f"is no file of torch.save: {error}") from error
    return Archive(path, content, arrays)


def _root(members: list[zipfile.ZipInfo]) -> str:
    roots = [
        m.filename.removesuffix("/data.pkl")
        for m in members
        if m.filename.count("/") == 1 and m.filename.endswith("/data.pkl")
    ]
    if len(roots) != 1:
        raise RefusedError(f"it holds {len(roots)} pickles, expected one")
    return roots[0]


def _require_plain(members: list[zipfile.ZipInfo], root: str) -> None:
    names = {member.filename for member in members}
    if len(names) != len(members):
        raise RefusedError("it holds two files of one name")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise RefusedError(f"{member.filename!r} in it is compressed, which torch never does")
        if member.filename == f"{root}/data.pkl" and member.file_size > MAX_BYTES:
            raise RefusedError(f"its pickle has {member.file_size} bytes, at most {MAX_BYTES} are read")
        if member.filename == f"{root}/byteorder" and member.file_size != len("little"):
            raise RefusedError("its numbers are not little-endian")


def _start(file: Any, member: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: behind a header whose length only the header says."""
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) != _LOCAL_HEADER or header[:4] != b"PK\3\4":
        raise RefusedError(f"{member.filename!r} in it has no header")
    return (
        member.header_offset
        + _LOCAL_HEADER
        + sum(int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    )


def _read(
    path: Path, start: int, extent: int, size: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype
) -> torch.Tensor:
    """Read the numbers that a view spans, and copy the view out of them."""
    spanned = read_at(path, start, (extent,), dtype)
    view = spanned.as_strided(size, stride) if extent else spanned.reshape(size)
    return view if view.is_contiguous() else view.contiguous()


def _kind(found: Any) -> str:
    return f"a {found.name}" if isinstance(found, Record) else f"a {type(found).__name__}"
