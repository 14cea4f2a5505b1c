"""The parameters of an official checkpoint, by flax's names, without jax.

A folder holds `config.json`, `dataset_statistics.json`, `example_batch.msgpack` and
`<step>/default/checkpoint`: all arrays in this one msgpack file, or a placeholder for each and the array
itself beside it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vla_bench.errors import DataError, MissingDataError
from vla_bench.policy.octo.packed import Leaf, PackedArray, packed_leaves
from vla_bench.policy.octo.stores import MANIFEST, ocdbt_array, zarr_array
from vla_bench.policy.tensors import StoredTensor, read_at

FILE = "checkpoint"
PLACEHOLDER = "PLACEHOLDER://"


def step_folder(folder: Path) -> Path:
    """Return the folder that holds the parameters of the latest step of a checkpoint.

    Raises:
        MissingDataError: There is none; says what was found.
    """
    steps = sorted(int(p.name) for p in folder.glob("*") if p.name.isdecimal() and p.is_dir())
    found = [folder / str(step) / "default" for step in reversed(steps)]
    for place in found:
        if (place / FILE).is_file():
            return place
    inside = ", ".join(sorted(p.name for p in folder.glob("*"))) or "nothing"
    raise MissingDataError(f"{folder}: expected <step>/default/{FILE} or model.safetensors, found {inside}")


def flax_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return the parameters in a step's folder; names of scopes are joined with "/".

    Raises:
        MissingDataError: A file is not there.
        DataError: A file cannot be used.
        MissingCapabilityError: The arrays are in a store that needs a further package.
    """
    path = folder / FILE
    return {name: _stored(path, name, leaf) for name, leaf in packed_leaves(path).items()}


def _stored(path: Path, name: str, leaf: Leaf) -> StoredTensor:
    if isinstance(leaf, PackedArray):
        read = partial(read_at, path, leaf.start, leaf.shape, leaf.dtype)
        return StoredTensor(path, leaf.shape, leaf.dtype, read)
    if not isinstance(leaf, str) or not leaf.startswith(PLACEHOLDER):
        raise DataError(path, f"{name!r}: expected an array or {PLACEHOLDER}NAME, found {leaf!r:.80}")
    place = leaf.removeprefix(PLACEHOLDER)
    # a name, never a path: what a file says must not lead out of its folder
    if not place or place in (".", "..") or any(c in place for c in "/\\\0"):
        raise DataError(path, f"{name!r}: {place!r:.80} is not the name of an array")
    if (path.parent / MANIFEST).is_file():
        return ocdbt_array(path.parent, place)
    return zarr_array(path.parent / place)
