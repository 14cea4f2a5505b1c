"""Pictures of a scene, and the one owner of OpenGL contexts in a process.

A process has one GL context, made at the first picture and current only while something is drawn, so that
any thread may draw, one at a time. Each model that is drawn has one `mujoco.MjrContext` in it, which holds
its meshes and textures. With a single GL context, what belongs to one model cannot be deleted from, or
drawn into, the context of another.

OpenGL does not survive a fork: a child of a process that has drawn is refused, with the way out.
"""

from __future__ import annotations

import atexit
import importlib
import os
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import ConventionError, MissingCapabilityError, UnknownNameError
from vla_bench.sim.opengl import Backend, choose_backend
from vla_bench.types import Image

# robosuite draws visual geoms (group 1) and hides collision geoms (group 0).
COLLISION_GROUP = 0


@dataclass(frozen=True, slots=True)
class Graphics:
    """What draws the pictures, for records: pictures are comparable bit by bit only with the same renderer.

    Attributes:
        backend: `egl` or `osmesa`.
        why: Why it was chosen.
        renderer, vendor, version: As OpenGL names itself.
    """

    backend: str
    why: str
    renderer: str
    vendor: str
    version: str

    def __str__(self) -> str:
        return f"{self.renderer}, {self.version}, through {self.backend}, because {self.why}"


def describe() -> Graphics:
    """Return what draws the pictures of this process.

    Raises:
        MissingCapabilityError: Nothing does; says what to install.
    """
    with _context() as context:
        from OpenGL import GL

        names = (GL.GL_RENDERER, GL.GL_VENDOR, GL.GL_VERSION)
        renderer, vendor, version = (bytes(GL.glGetString(name) or b"unknown").decode() for name in names)
    return Graphics(context.backend.name, context.backend.why, renderer, vendor, version)


class SceneRenderer:
    """Draws one model: visual geoms and sites, with the model's own lights, shadows and multisampling.

    Nothing is allocated before the first picture. The pictures are those of robosuite's off-screen
    renderer (geom group 0 hidden, everything else at MuJoCo's defaults).
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        self._option = mujoco.MjvOption()
        self._option.geomgroup[COLLISION_GROUP] = 0
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._memory: _Memory | None = None
        self._repainted: set[int] = set()

    def render(self, data: mujoco.MjData, camera: str | int, height_px: int, width_px: int) -> Image:
        """Return the picture of a camera as (H, W, 3) uint8, top row first.

        Args:
            data: State whose kinematics are current; `mj_kinematics` and `mj_camlight` are enough.
            camera: Name or index of a camera of the model.
            height_px: H.
            width_px: W.

        Raises:
            UnknownNameError: The model has no such camera.
            ConventionError: The picture would be empty.
            MissingCapabilityError: This machine, or this forked process, cannot draw.
        """
        with _context() as context:
            return self._draw(self._allocated(context), data, camera, height_px, width_px)

    def segment(
        self, data: mujoco.MjData, camera: str | int, height_px: int, width_px: int
    ) -> NDArray[np.int32]:
        """Return the geom seen at each pixel as (H, W) int32 indices, −1 where there is none.

        Arguments and errors are those of `render`.
        """
        with _context() as context:
            memory = self._allocated(context)
            scene = memory.scene
            flags = mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR
            try:
                for flag in flags:
                    scene.flags[flag] = 1
                colors = self._draw(memory, data, camera, height_px, width_px)
            finally:
                for flag in flags:
                    scene.flags[flag] = 0
            geom_of = np.full(scene.ngeom + 1, -1, dtype=np.int32)
            for item in scene.geoms[: scene.ngeom]:
                if item.segid >= 0 and item.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                    geom_of[item.segid + 1] = item.objid
        return geom_of[colors.astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], dtype=np.int32)]

    def upload(self, textures: Iterable[int]) -> None:
        """Show the pixels that these textures of the model have now, from the next picture on."""
        self._repainted |= set(textures)

    def close(self) -> None:
        """Free the graphics memory; a later picture would allocate it anew."""
        if self._memory is not None:
            self._memory.discard()
            self._memory = None
            if _owned_here():
                with _context():
                    """Entering the context frees what was discarded."""

    def _draw(
        self, memory: _Memory, data: mujoco.MjData, camera: str | int, height_px: int, width_px: int
    ) -> Image:
        """Draw into the off-screen buffer and read it back; the GL context must be current."""
        if height_px < 1 or width_px < 1:
            raise ConventionError(f"a picture needs a height and a width, not {height_px}×{width_px} px")
        self._view.fixedcamid = self._camera_index(camera)
        scene, buffers = memory.scene, memory.buffers
        if height_px > buffers.offHeight or width_px > buffers.offWidth:
            size = max(width_px, buffers.offWidth), max(height_px, buffers.offHeight)
            mujoco.mjr_resizeOffscreen(*size, buffers)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.model, data, self._option, None, self._view, everything, scene)
        # Another model's buffer may be bound.
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, buffers)
        rectangle = mujoco.MjrRect(0, 0, width_px, height_px)
        mujoco.mjr_render(rectangle, scene, buffers)
        pixels = np.empty((height_px, width_px, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(pixels, None, rectangle, buffers)
        return np.ascontiguousarray(pixels[::-1])  # OpenGL counts rows from the bottom

    def _allocated(self, context: _Context) -> _Memory:
        if self._memory is None:
            # A full list would drop geoms and count as a warning of the physics.
            scene = mujoco.MjvScene(self.model, maxgeom=max(1000, 2 * (self.model.ngeom + self.model.nsite)))
            buffers = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50)
            discard = weakref.finalize(self, context.discarded.append, buffers)
            discard.atexit = False  # the GL context takes everything with it
            self._memory = _Memory(scene, buffers, discard)
            self._repainted.clear()  # all textures have just been uploaded
        while self._repainted:
            mujoco.mjr_uploadTexture(self.model, self._memory.buffers, self._repainted.pop())
        return self._memory

    def _camera_index(self, camera: str | int) -> int:
        names = [self.model.camera(i).name for i in range(self.model.ncam)]
        if isinstance(camera, str):
            if camera not in names:
                raise UnknownNameError("camera", camera, names)
            return names.index(camera)
        if not 0 <= camera < self.model.ncam:
            raise UnknownNameError("camera", str(camera), [f"{i} ({name})" for i, name in enumerate(names)])
        return camera


@dataclass(frozen=True, slots=True)
class _Memory:
    """What drawing a model takes: the list of visible geoms, the GL resources, and how to give them back."""

    scene: mujoco.MjvScene
    buffers: mujoco.MjrContext
    discard: weakref.finalize


class _Context:
    """The GL context of this process, current inside `with` and nowhere else."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.pid = os.getpid()
        self.discarded: list[mujoco.MjrContext] = []
        self._lock = threading.Lock()
        self._platform, self._gl = _make_gl(backend)

    def __enter__(self) -> _Context:
        self._lock.acquire()
        try:
            self._gl.make_current()
        except BaseException:
            self._lock.release()
            raise
        # Resources of renderers that were closed or collected, on whichever thread that happened.
        while self.discarded:
            self.discarded.pop().free()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()
        self._lock.release()

    def free(self) -> None:
        """Destroy the GL context and all that lies in it, while the interpreter is still whole."""
        if self.pid == os.getpid():
            self._gl.free()
            del self._gl

    def _release(self) -> None:
        """Let go of the context, so that another thread can take it."""
        if self.backend.name == "egl":
            egl = self._platform.EGL
            nothing = egl.EGL_NO_SURFACE, egl.EGL_NO_SURFACE, egl.EGL_NO_CONTEXT
            egl.eglMakeCurrent(self._platform.EGL_DISPLAY, *nothing)
        else:
            self._platform.osmesa.OSMesaMakeCurrent(None, None, self._platform.GL.GL_FLOAT, 0, 0)


_the_context: _Context | None = None
_making = threading.Lock()


def _context() -> _Context:
    """The context of this process, made at the first call."""
    global _the_context
    if _the_context is None:
        with _making:
            if _the_context is None:
                _the_context = _Context(choose_backend())
                atexit.register(_the_context.free)
    if not _owned_here():
        raise MissingCapabilityError(
            "this process was forked from one that had already drawn pictures, and OpenGL does not survive a "
            "fork; start workers with the method 'spawn' or 'forkserver', or before the first picture"
        )
    return _the_context


def _owned_here() -> bool:
    return _the_context is not None and _the_context.pid == os.getpid()


def _make_gl(backend: Backend) -> tuple[Any, Any]:
    """MuJoCo's module for the backend, and a GL context from it."""
    before = os.environ.get("PYOPENGL_PLATFORM")
    try:
        # PyOpenGL reads the variable when it is imported; MuJoCo's module sets it and leaves it, which would
        # tie child processes to this choice.
        platform = importlib.import_module(f"mujoco.{backend.name}")
        # The size is that of a window nobody sees: pictures are drawn into off-screen buffers.
        return platform, platform.GLContext(1, 1)
    except Exception as error:  # PyOpenGL fails with AttributeError, TypeError, GLError, ImportError …
        raise backend.unusable(error) from error
    finally:
        if before is None:
            os.environ.pop("PYOPENGL_PLATFORM", None)
        else:
            os.environ["PYOPENGL_PLATFORM"] = before
