"""Imports robosuite 1.4.0 without what its import does besides: for its own tasks, and for nothing else."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from vla_bench.errors import MissingCapabilityError
from vla_bench.sim.assets import robosuite_assets

# What is set before robosuite reads it: no log file in the shared temporary folder, no advice on the console,
# no `MUJOCO_GL=egl` over another choice.
_MACROS = {"FILE_LOGGING_LEVEL": None, "CONSOLE_LOGGING_LEVEL": "ERROR", "MUJOCO_GPU_RENDERING": False}


def import_robosuite() -> ModuleType:
    """Return robosuite. It makes no OpenGL context, for the pictures are drawn here, and writes no log file.

    Raises:
        MissingCapabilityError: It is not installed, is another version, or does not import; says what to
            install.
    """
    if "robosuite" in sys.modules:
        return sys.modules["robosuite"]
    package = robosuite_assets().parents[1]
    try:
        import mujoco  # noqa: F401  (reads MUJOCO_GL once; it must see the user's)

        with _without_graphics():
            macros = _load("robosuite.macros", str(package / "macros.py"))
            vars(macros).update(_MACROS)
            sys.modules["robosuite.macros"] = macros
            return importlib.import_module("robosuite")
    except ImportError as error:
        for name in [each for each in sys.modules if each.partition(".")[0] == "robosuite"]:
            del sys.modules[name]  # half of it
        raise MissingCapabilityError(
            f"robosuite's own tasks need robosuite itself, which does not import: {error}; run "
            "pip install 'vla-bench[robosuite]' and, for the OpenCV that comes with it, libGL (Debian: "
            "libgl1 and libglib2.0-0)"
        ) from error


def _load(name: str, path: str) -> ModuleType:
    """Execute a module of a package that is not imported yet."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _without_graphics() -> Iterator[None]:
    """Let robosuite find that no OpenGL is wanted; PyOpenGL can serve one platform in a process, ours."""
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = before
