"""Which OpenGL draws the pictures: EGL or OSMesa, chosen from what this machine has, with the reason.

A GPU's EGL is preferred, then OSMesa, then EGL on the CPU (both are Mesa's llvmpipe and give the same
pixels). `MUJOCO_GL` and `MUJOCO_EGL_DEVICE_ID` are obeyed. PyOpenGL can serve one platform in a process,
so the choice is made before it is imported, by asking the libraries themselves.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from dataclasses import dataclass
from typing import Any

from vla_bench.errors import MissingCapabilityError, UnknownNameError

DEBIAN_PACKAGES = {"egl": "libegl1, libopengl0 and libgl1-mesa-dri", "osmesa": "libosmesa6"}
_LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}

# Values from the EGL registry (eglext.h).
_EGL_EXTENSIONS = 0x3055
_EGL_PLATFORM_DEVICE_EXT = 0x313F
_SOFTWARE_DEVICE = b"EGL_MESA_device_software"


@dataclass(frozen=True, slots=True)
class Backend:
    """The OpenGL platform that is used and a phrase that says why."""

    name: str
    why: str

    def unusable(self, problem: object) -> MissingCapabilityError:
        """The error that says that this backend does not work here, and what to install."""
        return MissingCapabilityError(
            f"cannot draw pictures with {self.name}, chosen because {self.why}: {problem}; "
            f"{_how_to_install()}"
        )


def choose_backend() -> Backend:
    """Return the backend for this process.

    Raises:
        UnknownNameError: `MUJOCO_GL` names no backend.
        MissingCapabilityError: There is none, or the variables ask for what is not there.
    """
    asked = asked_backend()
    bound = _pyopengl_platform()
    if bound and (bound not in DEBIAN_PACKAGES or asked not in ("", bound)):
        wanted = f"MUJOCO_GL={asked}" if asked else "pictures without a display"
        raise MissingCapabilityError(
            f"PyOpenGL is bound to {bound!r} in this process (PYOPENGL_PLATFORM, or an import before the "
            f"first picture), which contradicts {wanted}; set PYOPENGL_PLATFORM={asked or 'egl'} or unset it"
        )
    if asked:
        backend = Backend(asked, f"MUJOCO_GL={asked}")
    elif bound:
        backend = Backend(bound, f"PyOpenGL is already bound to {bound}")
    else:
        backend = _best_backend()
    _check_library(backend)
    if backend.name == "egl":
        _check_named_device()
    return backend


def asked_backend() -> str:
    """The value of `MUJOCO_GL`, empty if unset.

    Worth calling before `import mujoco`, which fails less clearly for the same reasons.

    Raises:
        UnknownNameError: It names no backend that draws without a display.
        MissingCapabilityError: The backend's library is not installed.
    """
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    if not asked:
        return ""
    if asked not in DEBIAN_PACKAGES:
        raise UnknownNameError("value of MUJOCO_GL:", asked, DEBIAN_PACKAGES)
    _check_library(Backend(asked, f"MUJOCO_GL={asked}"))
    return asked


def _check_library(backend: Backend) -> None:
    library = _LIBRARIES[backend.name]
    if not ctypes.util.find_library(library):
        raise backend.unusable(f"lib{library} is not installed")


def _best_backend() -> Backend:
    """The first that exists of: the EGL device that is named, a GPU's EGL, OSMesa, EGL on the CPU."""
    named = os.environ.get("MUJOCO_EGL_DEVICE_ID")
    if named is not None:
        return Backend("egl", f"MUJOCO_EGL_DEVICE_ID={named}")
    devices = egl_devices()
    if any(device.usable and not device.software for device in devices):
        return Backend("egl", "a GPU offers EGL")
    if ctypes.util.find_library(_LIBRARIES["osmesa"]):
        return Backend("osmesa", "no GPU offers EGL, and OSMesa draws on the CPU")
    if any(device.usable for device in devices):
        return Backend("egl", "there is neither a GPU with EGL nor OSMesa, and Mesa's EGL draws on the CPU")
    raise MissingCapabilityError(f"no OpenGL was found that draws without a display; {_how_to_install()}")


def _check_named_device() -> None:
    named = os.environ.get("MUJOCO_EGL_DEVICE_ID")
    if named is None:
        return
    devices = egl_devices()
    if not (named.isdigit() and int(named) < len(devices) and devices[int(named)].usable):
        usable = [str(i) for i, device in enumerate(devices) if device.usable]
        raise MissingCapabilityError(
            f"MUJOCO_EGL_DEVICE_ID={named} names no usable device; EGL has {', '.join(usable) or 'none'}"
        )


@dataclass(frozen=True, slots=True)
class EglDevice:
    """A device that EGL lists: a GPU or Mesa's software device; `usable` if this process may open it."""

    software: bool
    usable: bool


def egl_devices() -> list[EglDevice]:
    """The devices that EGL lists, in the order of `MUJOCO_EGL_DEVICE_ID`; none without EGL."""
    name = ctypes.util.find_library(_LIBRARIES["egl"])
    if name is None:
        return []
    try:
        # Not RTLD_GLOBAL: MuJoCo takes OpenGL from whichever library the whole process can see.
        egl = ctypes.CDLL(name)
    except OSError:
        return []
    pointer, address_of = ctypes.c_void_p, egl.eglGetProcAddress
    address_of.restype = pointer

    def function(name: bytes, result: Any, *arguments: Any) -> Any:
        address = address_of(name)
        return ctypes.CFUNCTYPE(result, *arguments)(address) if address else None

    list_devices = function(
        b"eglQueryDevicesEXT", ctypes.c_uint, ctypes.c_int, pointer, ctypes.POINTER(ctypes.c_int)
    )
    device_string = function(b"eglQueryDeviceStringEXT", ctypes.c_char_p, pointer, ctypes.c_int)
    device_display = function(b"eglGetPlatformDisplayEXT", pointer, ctypes.c_uint, pointer, pointer)
    handles, count = (pointer * 64)(), ctypes.c_int()
    if None in (list_devices, device_string, device_display) or not list_devices(
        len(handles), handles, ctypes.byref(count)
    ):
        return []
    devices = []
    for handle in handles[: count.value]:
        display = device_display(_EGL_PLATFORM_DEVICE_EXT, handle, None)
        usable = bool(display and egl.eglInitialize(pointer(display), None, None))
        extensions = device_string(handle, _EGL_EXTENSIONS) or b""
        devices.append(EglDevice(_SOFTWARE_DEVICE in extensions.split(), usable))
    return devices


def _pyopengl_platform() -> str:
    """The platform that PyOpenGL uses in this process or will use on import; empty if still open."""
    loaded = sys.modules.get("OpenGL.platform")
    if loaded is not None:
        return type(loaded.PLATFORM).__module__.rpartition(".")[2]
    return os.environ.get("PYOPENGL_PLATFORM", "").strip().lower()


def _how_to_install() -> str:
    options = " or ".join(f"{packages} (MUJOCO_GL={name})" for name, packages in DEBIAN_PACKAGES.items())
    return f"on Debian and Ubuntu install {options}"


if __name__ == "__main__":
    try:
        backend = choose_backend()
    except (MissingCapabilityError, UnknownNameError) as error:
        sys.exit(str(error))
    print(f"pictures: {backend.name}, because {backend.why}")
