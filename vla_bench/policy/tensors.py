"""Tensors in files: found by name, checked against a module, read one at a time.

Safetensors are read with plain reads, not through a memory map: mapped pages count as a second copy of the
weights as long as a shard is open. Pickles are read only as `weights_only`, and never as a model's weights.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vla_bench.errors import DataError, MissingDataError, suggest

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file; `read` returns a copy of its own in memory."""

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]


Stored = Mapping[str, StoredTensor]


def weights_of(folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a checkpoint folder: one safetensors file, or shards with an index.

    Raises:
        MissingDataError: There are no weights, or a shard that the index names is not there.
        DataError: They are pickles, a file is truncated, or index and shards disagree.
    """
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder")
    if (folder / INDEX).is_file():
        return _sharded(folder)
    if (folder / SINGLE).is_file():
        return safetensors_of(folder / SINGLE)
    found = sorted(p.name for p in folder.iterdir() if p.is_file())
    if shards := [name for name in found if name.endswith(".safetensors")]:
        raise MissingDataError(f"{folder}: has {', '.join(shards)}, but neither {SINGLE} nor {INDEX}")
    if pickles := [name for name in found if name.endswith(PICKLES)]:
        raise DataError(folder / pickles[0], f"is a pickle, which can run code: refused; expected {SINGLE}")
    raise MissingDataError(f"{folder}: expected {SINGLE} or {INDEX}, found {', '.join(found) or 'no files'}")


def _sharded(folder: Path) -> dict[str, StoredTensor]:
    index = read_json(folder / INDEX)
    where = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(where, dict):
        raise DataError(folder / INDEX, "has no table 'weight_map'")
    files = sorted(set(where.values()))
    if missing := [name for name in files if not (folder / name).is_file()]:
        found = ", ".join(sorted(p.name for p in folder.glob("*.safetensors"))) or "none"
        raise MissingDataError(
            f"{folder / missing[0]}: missing; {INDEX} names {len(files)} shards, found {found}"
        )
    stored = {name: tensor for file in files for name, tensor in safetensors_of(folder / file).items()}
    for name, file in where.items():
        if name not in stored or stored[name].file.name != file:
            raise DataError(folder / file, f"lacks the tensor {name!r} that {INDEX} says is there")
    return stored


def safetensors_of(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of one safetensors file, in the order of the file.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is truncated, or not a safetensors file.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise DataError(
                path, f"is no safetensors file or truncated: header of {length} bytes in a file of {size}"
            )
        try:
            header = json.loads(file.read(length))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
            raise DataError(path, f"is no safetensors file: its header cannot be read ({error})") from error
    if size != 8 + length + end:
        kind = "truncated" if size < 8 + length + end else "longer than it says"
        raise DataError(path, f"is {kind}: its header describes {8 + length + end} bytes, found {size}")
    by_offset = sorted(entries.items(), key=lambda item: item[1]["data_offsets"][0])
    return {name: _stored(path, 8 + length, name, entry) for name, entry in by_offset}


def _stored(path: Path, origin: int, name: str, entry: dict[str, Any]) -> StoredTensor:
    if entry.get("dtype") not in DTYPES:
        raise DataError(path, f"tensor {name!r} has type {entry.get('dtype')!r}; known: {', '.join(DTYPES)}")
    shape, dtype = tuple(entry["shape"]), DTYPES[entry["dtype"]]
    start, end = entry["data_offsets"]
    expected = math.prod(shape) * dtype.itemsize
    if end - start != expected:
        raise DataError(path, f"tensor {name!r} of shape {shape} needs {expected} bytes, found {end - start}")
    return StoredTensor(path, shape, dtype, partial(read_at, path, origin + start, shape, dtype))


def read_at(path: Path, start: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Read a tensor that lies in a file as plain bytes, in C order, from byte `start` on.

    Raises:
        DataError: The file ends before it does.
    """
    tensor = torch.empty(shape, dtype=dtype)
    buffer: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    with path.open("rb") as file:
        file.seek(start)
        got = file.readinto(buffer)
    if got != buffer.size:
        raise DataError(path, f"ended early: {buffer.size} bytes wanted at {start}, found {got}")
    return tensor


def state_of(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a `.pt` file that holds a state dict and nothing else.

    Raises:
        DataError: It holds other objects (which could run code), or is broken.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise DataError(path, "is a pickle of more than tensors, which could run code: refused") from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise DataError(path, f"is not a state dict of torch: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise DataError(path, f"expected a table of tensors, found {type(state).__name__}")
    return {
        name.removeprefix("module."): StoredTensor(path, tuple(t.shape), t.dtype, t.clone)
        for name, t in state.items()
    }


def assign(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Put a parameter or buffer of `module` in the place of the one that has its name."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(value, requires_grad=False)
    else:
        owner._buffers[leaf] = value


def fill(
    module: nn.Module,
    stored: Stored,
    *,
    dtype: torch.dtype,
    device: torch.device,
    source: Path,
    place: Callable[[nn.Module, str, torch.Tensor], None] = assign,
) -> None:
    """Give every parameter and persistent buffer of `module` its stored value, one tensor at a time.

    Args:
        module: Usually on the meta device; what it held is dropped.
        stored: Tensors by the module's names, exactly.
        dtype: Of all floating-point tensors afterwards.
        device: Where they live.
        source: Folder or file that is read, for errors.
        place: Takes each value; may put something else where it belongs.

    Raises:
        DataError: A name is missing or unknown, or a shape differs; nothing has been read then.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    check(expected, stored, source)
    for name, tensor in stored.items():
        value = tensor.read().to(device=device)
        place(module, name, value.to(dtype) if value.is_floating_point() else value)


def check(expected: Mapping[str, tuple[int, ...]], stored: Stored, source: Path) -> None:
    """Compare names and shapes.

    Raises:
        DataError: They differ; names the file, what was expected and what was found.
    """
    for name, tensor in stored.items():
        if name not in expected:
            others = len([n for n in stored if n not in expected]) - 1
            more = f" (and {others} more)" if others else ""
            unfilled = [n for n in expected if n not in stored]
            raise DataError(
                tensor.file, f"has an unknown tensor {name!r}{more}{suggest(name, unfilled or expected)}"
            )
        if tensor.shape != expected[name]:
            raise DataError(tensor.file, f"tensor {name!r}: expected {expected[name]}, found {tensor.shape}")
    if missing := [name for name in expected if name not in stored]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(
            source,
            f"lacks the tensor {missing[0]!r} of shape {expected[missing[0]]}{more}; "
            f"found {len(stored)} of {len(expected)}",
        )


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is not JSON; names the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: no such file") from error
    except json.JSONDecodeError as error:
        raise DataError(path, f"is not valid JSON: {error.msg}", line=error.lineno) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read: {error}") from error


def sub(stored: Stored, prefixes: Iterable[str]) -> dict[str, StoredTensor]:
    """Return the tensors whose names start with one of `prefixes`."""
    return {name: tensor for name, tensor in stored.items() if name.startswith(tuple(prefixes))}
