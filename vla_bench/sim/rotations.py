"""Drawing orientations, and the float32 arithmetic of rotations that the originals use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from vla_bench.sim.categories import Range, Rotation


class Stream(Protocol):
    """What is drawn from: numpy's legacy stream for LIBERO, a `Generator` behind `ModernStream` elsewhere."""

    def randn(self, n: int, /) -> np.ndarray:
        """Draw n standard normals."""
        ...

    def uniform(self, low: float, high: float, /) -> float:
        """Draw one uniform."""
        ...

    def randint(self, high: int, /) -> int:
        """Draw an integer below `high`."""
        ...


class ModernStream:
    """A `numpy.random.Generator` with the names of the legacy stream."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.uniform = generator.uniform
        self.randn = generator.standard_normal
        self.randint = generator.integers


def draw_yaw(limits: Range, tipped: float = 0.0) -> Callable[[Stream], np.ndarray]:
    """Draw a rotation about z, of something turned about its y axis before."""
    c, s = np.cos(tipped / 2), np.sin(tipped / 2)

    def draw(stream: Stream) -> np.ndarray:
        angle = stream.uniform(*limits)
        cz, sz = np.cos(angle / 2), np.sin(angle / 2)
        return np.array([cz * c, -sz * s, cz * s, sz * c])

    return draw


def draw_libero_rotation(rotation: Rotation) -> Callable[[Stream], np.ndarray]:
    """Draw an angle for each axis and return the quaternion as LIBERO stores it.

    LIBERO computes (x, y, z, w) and stores it where MuJoCo reads (w, x, y, z); several axes are multiplied
    in float32. Both belong to the protocol.
    """

    def draw(stream: Stream) -> np.ndarray:
        quats = []
        for axis, limits in rotation:
            angle = stream.uniform(*limits)
            quat = np.zeros(4)
            quat["xyz".index(axis)] = np.sin(angle / 2)
            quat[3] = np.cos(angle / 2)
            quats.append(quat)
        if len(quats) == 1:
            return quats[0]
        product = np.array([0.0, 0.0, 0.0, 1.0])
        for quat in quats:
            product = _multiply_xyzw(quat, product)
        return product.astype(float)

    return draw


def _multiply_xyzw(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton product a·b of (x, y, z, w) quaternions, rounded to float32."""
    (x1, y1, z1, w1), (x0, y0, z0, w0) = a, b
    return np.array(
        [
            x1 * w0 + y1 * z0 - z1 * y0 + w1 * x0,
            -x1 * z0 + y1 * w0 + z1 * x0 + w1 * y0,
            x1 * y0 - y1 * x0 + z1 * w0 + w1 * z0,
            -x1 * x0 - y1 * y0 - z1 * z0 + w1 * w0,
        ],
        dtype=np.float32,
    )


def float32_rotation(quat: np.ndarray) -> np.ndarray:
    """3×3 rotation of a quaternion (w, x, y, z), computed from float32 as robosuite's `quat2mat` does.

    The off-diagonal products stay float32, one minus the diagonal is float64.
    """
    q = np.asarray(quat).astype(np.float32)
    norm = np.dot(q, q)
    q = np.multiply(q, np.sqrt(2.0 / float(norm)), dtype=np.float64).astype(np.float32)
    p = np.outer(q, q)
    d = p.astype(np.float64)
    return np.array(
        [
            [1 - d[2, 2] - d[3, 3], p[1, 2] - p[3, 0], p[1, 3] + p[2, 0]],
            [p[1, 2] + p[3, 0], 1 - d[1, 1] - d[3, 3], p[2, 3] - p[1, 0]],
            [p[1, 3] - p[2, 0], p[2, 3] + p[1, 0], 1 - d[1, 1] - d[2, 2]],
        ],
        dtype=np.float64,
    )
