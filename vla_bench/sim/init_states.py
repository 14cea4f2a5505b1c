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

# what a pickled numpy array names; everything else is refused
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"refused global {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("refused persistent object")


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
            array = _ArrayUnpickler(io.BytesIO(archive.read(member))).load()
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: no such file of initial states{remedy(path)}") from error
    except Exception as error:  # a damaged pickle raises anything
        raise DataError(path, f"is not a file of initial states: {error}{remedy(path)}") from error
    if not isinstance(array, np.ndarray) or array.dtype != np.float64 or array.ndim != 2:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(path, f"holds {found}, expected a two-dimensional float64 array")
    if not np.isfinite(array).all():
        raise DataError(path, "holds numbers that are not finite")
    array.flags.writeable = False
    return array
