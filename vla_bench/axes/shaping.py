"""Scaling an object's model file, along its axes, before it is compiled.

Lengths of boxes, cylinders, capsules, ellipsoids and meshes follow; masses follow from densities. A geom that
is turned against the axes keeps its kind and its right angles: its longest edge is exact, the others follow.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
from scipy.spatial.transform import Rotation

from vla_bench.errors import DataError
from vla_bench.sim.mjcf import Part, text, vector
from vla_bench.types import Array

_TURNS = ("euler", "axisangle", "xyaxes", "zaxis")


def scale_part(part: Part, factors: Array) -> None:
    """Stretch an object by (3,) factors along the axes of its body.

    Raises:
        DataError: A geom is turned in a way that is not read here, or has a mass of its own.
    """
    meshes = {mesh.get("name"): mesh for mesh in part.asset.iter("mesh")}
    stretched: set[str] = set()
    for body in part.worldbody.iter("body"):
        if body.get("pos"):
            body.set("pos", text(vector(body.get("pos", "")) * factors))
    for site in part.worldbody.iter("site"):
        site.set("pos", text(vector(site.get("pos", "0 0 0")) * factors))
    for geom in part.worldbody.iter("geom"):
        odd = [name for name in (*_TURNS, "mass") if geom.get(name)]
        if odd:
            raise DataError(part.path, f"a geom with {odd[0]} cannot be scaled; use quat and density")
        lengths = _stretch(geom, factors)
        mesh = geom.get("mesh")
        if mesh is not None and mesh not in stretched:
            stretched.add(mesh)
            own = vector(meshes[mesh].get("scale", "1 1 1"))
            meshes[mesh].set("scale", text(own * lengths))


def distortion(part: Part, factors: Array) -> float:
    """How far stretching is from exact: 1 where round geoms stay round, else their worst ratio of widths."""
    worst = 1.0
    for geom in part.worldbody.iter("geom"):
        if geom.get("fromto") or geom.get("type") in ("cylinder", "capsule"):
            along = _axis(geom)
            across = np.linalg.svd(np.diag(factors) @ (np.eye(3) - np.outer(along, along)))[1][:2]
            worst = max(worst, float(across[0] / across[1]))
    return worst


def _axis(geom: ET.Element) -> Array:
    """The axis of a cylinder or capsule."""
    if geom.get("fromto"):
        ends = vector(geom.get("fromto", "")).reshape(2, 3)
        return (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    quat = vector(geom.get("quat", "1 0 0 0"))
    return Rotation.from_quat(quat, scalar_first=True).as_matrix()[:, 2]


def _stretch(geom: ET.Element, factors: Array) -> Array:
    """Scale one geom and return how its own three axes were stretched."""
    if geom.get("fromto"):
        ends = vector(geom.get("fromto", "")).reshape(2, 3)
        along = _axis(geom)
        across = np.sqrt(np.prod(factors) / np.linalg.norm(along * factors))
        geom.set("fromto", text((ends * factors).ravel()))
        geom.set("size", text(vector(geom.get("size", "")) * across))
        return np.full(3, across)
    if geom.get("pos"):
        geom.set("pos", text(vector(geom.get("pos", "")) * factors))
    turn = Rotation.from_quat(vector(geom.get("quat", "1 0 0 0")), scalar_first=True).as_matrix()
    size = vector(geom.get("size", "")) if geom.get("size") else np.ones(3)
    axes = factors[:, None] * turn
    if geom.get("quat") and np.ptp(factors) > 0:
        turn = _square(axes, size)
        geom.set("quat", text(Rotation.from_matrix(turn).as_quat(scalar_first=True)))
    lengths = np.abs(np.sum(axes * turn, axis=0))
    if geom.get("size"):
        _set_size(geom, size, lengths)
    return lengths


def _square(axes: Array, size: Array) -> Array:
    """The rotation whose axes are those of a sheared box: exact for its longest edge, then for the next."""
    longest, middle, thin = np.argsort(-np.resize(size, 3) * np.linalg.norm(axes, axis=0), kind="stable")
    turn = np.zeros((3, 3))
    turn[:, longest] = axes[:, longest] / np.linalg.norm(axes[:, longest])
    rest = axes[:, middle] - turn[:, longest] * (turn[:, longest] @ axes[:, middle])
    turn[:, middle] = rest / np.linalg.norm(rest)
    turn[:, thin] = np.cross(turn[:, longest], turn[:, middle])
    if np.linalg.det(turn) < 0:
        turn[:, thin] *= -1
    return turn


def _set_size(geom: ET.Element, size: Array, lengths: Array) -> None:
    kind, across = geom.get("type", "sphere"), np.sqrt(lengths[0] * lengths[1])
    if kind in ("box", "ellipsoid"):
        geom.set("size", text(size[:3] * lengths))
    elif kind in ("cylinder", "capsule"):
        geom.set("size", text([size[0] * across, size[1] * lengths[2]]))
    elif kind == "sphere" and np.ptp(lengths) > 0:
        geom.set("type", "ellipsoid")
        geom.set("size", text(size[0] * lengths))
    elif kind == "sphere":
        geom.set("size", text([size[0] * lengths[0]]))
