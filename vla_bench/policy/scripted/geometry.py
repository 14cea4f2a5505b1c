"""Rotations, boxes as clouds of points, and where a thing comes to rest: pure functions on arrays.

Lengths in metres, angles in radians, rotations as 3×3 matrices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_bench.types import Array, Boxes

UP = np.array([0.0, 0.0, 1.0])


def rotation_vector(mat: Array) -> Array:
    """(3,) axis × angle of a rotation, angle in [0, π]."""
    skew = 0.5 * np.array([mat[2, 1] - mat[1, 2], mat[0, 2] - mat[2, 0], mat[1, 0] - mat[0, 1]])
    sine, cosine = float(np.linalg.norm(skew)), 0.5 * (np.trace(mat) - 1.0)
    if sine > 1e-6:
        return skew * (np.arctan2(sine, cosine) / sine)
    if cosine > 0.0:
        return skew
    column = int(np.argmax(np.diag(mat)))
    axis = mat[:, column] + np.eye(3)[column]
    return np.pi * axis / np.linalg.norm(axis)


def rotation(axis: Array, angle: float) -> Array:
    """Rotation by `angle` about a unit `axis`."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def angle_between(a: Array, b: Array) -> float:
    """Angle of the rotation from `a` to `b`."""
    return float(np.linalg.norm(rotation_vector(b @ a.T)))


def unit(vector: Array) -> Array:
    """`vector` at length 1; zero stays zero."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-9 else vector


def surface_points(half: Array, spacing: float) -> Array:
    """(N, 3) points on the surface of a box with half sizes `half`, at most `spacing` apart, with corners."""
    lines = [np.linspace(-h, h, max(2, int(np.ceil(2.0 * h / spacing)) + 1)) for h in half]
    grid = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid[np.any(np.abs(grid) >= half - 1e-9, axis=1)]


class BoxCloud:
    """Points on the surfaces of N boxes, fixed to the boxes, so that moving the boxes moves the points."""

    def __init__(self, half: Array, spacing: float) -> None:
        parts = [surface_points(h, spacing) for h in half]
        self.box = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        self._local = np.concatenate(parts) if parts else np.zeros((0, 3))

        self._at: tuple[Boxes, Array] | None = None

    def at(self, boxes: Boxes) -> Array:
        """(M, 3) points in the world for the present poses of the boxes."""
        if self._at is not None and _same_poses(self._at[0], boxes):
            return self._at[1]
        points = boxes.pos[self.box] + np.einsum("nij,nj->ni", boxes.mat[self.box], self._local)
        self._at = (boxes, points)
        return points


def _same_poses(a: Boxes, b: Boxes) -> bool:
    return np.array_equal(a.pos, b.pos) and np.array_equal(a.mat, b.mat)


class HeightField:
    """Highest point over each cell of a horizontal grid; `floor` where there is none.

    Args:
        points: (M, 3) points of what things can rest on.
        floor: Height of the workspace's surface.
        cell: Size of a cell, not less than the spacing of the points, so that surfaces have no holes.
    """

    def __init__(self, points: Array, floor: float, cell: float = 0.006) -> None:
        self.floor, self.cell = floor, cell
        keys = self._cells(points)
        self._low = keys.min(axis=0) - 1 if len(keys) else np.zeros(2, dtype=int)
        shape = keys.max(axis=0) - self._low + 2 if len(keys) else np.ones(2, dtype=int)
        grid = np.full(shape, floor)
        x, y = (keys - self._low).T
        np.maximum.at(grid, (x, y), points[:, 2])
        self._grid = grid

    def _cells(self, points: Array) -> NDArray[np.int64]:
        return np.floor(points[:, :2] / self.cell).astype(np.int64)

    def top(self, xy: Array) -> Array:
        """Heights under points of shape (…, 2)."""
        index = np.floor(xy / self.cell).astype(np.int64) - self._low
        inside = np.all((index >= 0) & (index < self._grid.shape), axis=-1)
        index = np.where(inside[..., None], index, 0)
        return np.where(inside, self._grid[index[..., 0], index[..., 1]], self.floor)

    def rest(self, points: Array, shifts: Array) -> Array:
        """How far a body must be raised to lie just above the field, for each horizontal shift.

        Args:
            points: (N, 3) points of the body.
            shifts: (K, 2) horizontal displacements.

        Returns:
            (K,) vertical displacements; negative where the body can sink.
        """
        bottom = _lowest_per_cell(points, self.cell)
        tops = self.top(bottom[None, :, :2] + shifts[:, None, :])
        return np.max(tops - bottom[None, :, 2], axis=1)


def _lowest_per_cell(points: Array, cell: float) -> Array:
    """(N', 3) the lowest of the points over each cell of a grid."""
    order = np.argsort(points[:, 2], kind="stable")
    keys = np.floor(points[order, :2] / cell).astype(np.int64)
    _, first = np.unique(keys, axis=0, return_index=True)
    return points[order[np.sort(first)]]
