"""LIBERO's files of initial states: zipped pickles of one array, read without executing anything."""

from __future__ import annotations

import functools
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from vla_bench.errors import DataError, MissingDataError
from vla_bench.sim.assets import remedy


class _Inert:
    """Stands for a numpy object in the pickle: keeps what it is given and does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused encoding {encoding!r}")
    return text.encode("latin1")


# What a pickled numpy array names; everything else is refused. Not even numpy's own constructors run: they
# trust what they are given.
_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Inert,
    ("numpy._core.multiarray", "_reconstruct"): _Inert,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Inert,
    ("_codecs", "encode"): _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"refused global {module}.{name}")
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("refused persistent object")


def _array(found: Any) -> np.ndarray:
    """The float64 array that a stand-in describes: (version, shape, dtype, Fortran order, bytes)."""
    if not (isinstance(found, _Inert) and isinstance(found.state, tuple) and len(found.state) == 5):
        raise ValueError(f"it holds {type(found).__name__}, expected an array")
    _, shape, dtype, fortran, data = found.state
    if not isinstance(dtype, _Inert) or dtype.arguments[:1] != ("f8",) or dtype.state[1] != "<":
        raise ValueError(
            f"its numbers are {getattr(dtype, 'arguments', dtype)}, expected little-endian float64"
        )
    if fortran or not isinstance(data, bytes) or len(shape) != 2:
        raise ValueError(f"it holds an array of shape {shape}, expected two dimensions in C order")
    return np.frombuffer(data, dtype="<f8").reshape(shape)


@functools.lru_cache(maxsize=32)
def read_init_states(path: Path) -> np.ndarray:
    """Return the (n, 1 + nq + nv) states [time, qpos, qvel] of a `.pruned_init` file; read-only.

    Raises:
        MissingDataError: There is no such file.
        DataError: The file is truncated or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (member,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
            array = _array(_ArrayUnpickler(io.BytesIO(archive.read(member))).load())
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: no such file of initial states{remedy(path)}") from error
    except Exception as error:  # a damaged pickle raises anything
        raise DataError(path, f"is not a file of initial states: {error}{remedy(path)}") from error
    if not np.isfinite(array).all():
        raise DataError(path, "holds numbers that are not finite")
    return array
