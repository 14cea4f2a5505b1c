"""Arrays that do not lie in the msgpack file itself: zarr folders, and OCDBT through tensorstore."""

from __future__ import annotations

import importlib
import itertools
import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, ValidationError

from vla_bench.errors import DataError, MissingCapabilityError, MissingDataError
from vla_bench.policy.octo.packed import DTYPES, MAX_DIMENSIONS
from vla_bench.policy.tensors import StoredTensor, read_json

# The largest array of the family, T5's embedding, takes 100 MB: a file that claims more is not believed.
MAX_BYTES = 1 << 30
MAX_CHUNKS = 4096
MANIFEST = "manifest.ocdbt"
_TYPES = {
    "<f8": "float64", "<f4": "float32", "<f2": "float16", "<i8": "int64", "<i4": "int32", "<i2": "int16",
    "|i1": "int8", "|u1": "uint8", "|b1": "bool", "bfloat16": "bfloat16",
}  # fmt: skip

_Lengths = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MAX_DIMENSIONS)]


class _Compressor(BaseModel):
    id: Literal["zstd"]


class _Metadata(BaseModel):
    """`.zarray`, as far as it is read here."""

    zarr_format: Literal[2]
    shape: _Lengths
    chunks: _Lengths
    dtype: str
    order: Literal["C"] = "C"
    compressor: _Compressor | None = None
    filters: None = None
    fill_value: float | None = None
    dimension_separator: Literal[".", "/"] = "."

    @property
    def counts(self) -> list[int]:
        """Number of chunks along each dimension."""
        return [-(-n // chunk) for n, chunk in zip(self.shape, self.chunks, strict=True)]

    @property
    def padded(self) -> list[int]:
        """Shape of all chunks together: those at the far edges are stored whole."""
        return [n * chunk for n, chunk in zip(self.counts, self.chunks, strict=True)]


def zarr_array(folder: Path) -> StoredTensor:
    """Return the array of a zarr folder (version 2; zstd or plain chunks).

    Raises:
        MissingDataError: There is no such array.
        DataError: It is described in a way that is not understood, or that cannot be.
    """
    path = folder / ".zarray"
    if not path.is_file():
        raise MissingDataError(f"{path}: missing; the checkpoint says that an array lies there")
    try:
        about = _Metadata.model_validate(read_json(path))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors())
        raise DataError(
            path, f"expected an array of zarr version 2 in zstd or plain chunks: {problems}"
        ) from error
    if about.dtype not in _TYPES:
        raise DataError(path, f"dtype {about.dtype!r} is not known; known: {', '.join(_TYPES)}")
    shape, dtype = tuple(about.shape), DTYPES[_TYPES[about.dtype]]
    fits = len(shape) == len(about.chunks) and all(
        0 < chunk <= max(n, 1) for chunk, n in zip(about.chunks, shape, strict=True)
    )
    if not fits or math.prod(about.counts) > MAX_CHUNKS:
        raise DataError(path, f"chunks of {about.chunks} do not divide an array of shape {shape}")
    if math.prod(about.padded) * dtype.itemsize > MAX_BYTES:
        raise DataError(path, f"claims an array of shape {shape}; at most {MAX_BYTES} bytes are expected")
    return StoredTensor(path, shape, dtype, partial(_read_zarr, folder, about, shape, dtype))


def _read_zarr(folder: Path, about: _Metadata, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    whole = torch.empty(about.padded, dtype=dtype)
    for index in itertools.product(*map(range, about.counts)):
        file = folder / (about.dimension_separator.join(map(str, index)) or "0")
        place = tuple(slice(i * chunk, (i + 1) * chunk) for i, chunk in zip(index, about.chunks, strict=True))
        whole[place] = _read_chunk(file, about, dtype)
    return whole[tuple(slice(n) for n in shape)].clone()


def _read_chunk(file: Path, about: _Metadata, dtype: torch.dtype) -> torch.Tensor:
    size = math.prod(about.chunks) * dtype.itemsize
    if not file.is_file():
        if about.fill_value is None:
            raise MissingDataError(f"{file}: missing, a part of an array of {tuple(about.shape)}")
        return torch.full(about.chunks, about.fill_value, dtype=dtype)
    content = file.read_bytes()
    if about.compressor is not None:
        content = _decompress(file, content, size)
    if len(content) != size:
        raise DataError(file, f"expected {size} bytes for {tuple(about.chunks)}, found {len(content)}")
    return torch.frombuffer(bytearray(content), dtype=dtype).reshape(about.chunks)


def _decompress(file: Path, content: bytes, size: int) -> bytes:
    import zstandard

    try:
        claimed = zstandard.frame_content_size(content)
        if claimed not in (size, -1):  # -1: it does not say
            raise DataError(file, f"expected {size} bytes, the compressed part claims {claimed}")
        # one byte more than expected, so that more is noticed and not written down
        return zstandard.ZstdDecompressor().stream_reader(content).read(size + 1)
    except zstandard.ZstdError as error:
        raise DataError(file, f"cannot be decompressed: {error}") from error


def ocdbt_array(folder: Path, name: str) -> StoredTensor:
    """Return an array of an OCDBT store, which only tensorstore can read.

    Raises:
        MissingCapabilityError: tensorstore is not installed.
        DataError: The store has no such array, or is broken.
    """
    manifest = folder / MANIFEST
    try:
        tensorstore = importlib.import_module("tensorstore")
    except ImportError as error:
        raise MissingCapabilityError(
            f"{manifest}: the arrays are in an OCDBT store, which needs the package 'tensorstore': "
            "pip install 'vla-bench[ocdbt]'"
        ) from error
    store = {"driver": "ocdbt", "base": folder.resolve().as_uri() + "/", "path": f"{name}/"}
    try:
        opened = tensorstore.open({"driver": "zarr", "kvstore": store}, open=True, read=True).result()
    except ValueError as error:
        raise DataError(manifest, f"array {name!r} cannot be opened: {error}") from error
    kind = opened.dtype.name
    if kind not in DTYPES:
        raise DataError(manifest, f"array {name!r} has type {kind!r}; known: {', '.join(DTYPES)}")
    shape, dtype = tuple(opened.shape), DTYPES[kind]
    if math.prod(shape) * dtype.itemsize > MAX_BYTES:
        raise DataError(
            manifest, f"array {name!r} claims shape {shape}; at most {MAX_BYTES} bytes are expected"
        )
    return StoredTensor(manifest, shape, dtype, partial(_read_ocdbt, opened, manifest, name, dtype))


def _read_ocdbt(opened: Any, manifest: Path, name: str, dtype: torch.dtype) -> torch.Tensor:
    try:
        array = opened.read().result()
    except ValueError as error:
        raise DataError(manifest, f"array {name!r} cannot be read: {error}") from error
    # numpy has no bfloat16 of its own, so the bytes are handed over
    return torch.frombuffer(bytearray(array.tobytes()), dtype=dtype).reshape(array.shape)
