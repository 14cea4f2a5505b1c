"""Scaling an object's model file, along its axes, before it is compiled.

Lengths of boxes, cylinders, capsules, ellipsoids and meshes follow; masses follow from densities. A geom that
is turned against the axes keeps its kind: it gets the lengths of its scaled axes and the nearest rotation,
which is exact where its axes are the object's, and close to it for the stretches that are used.
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


def _stretch(geom: ET.Element, factors: Array) -> Array:
    """Scale one geom and return how its own three axes were stretched."""
    if geom.get("fromto"):
        ends = vector(geom.get("fromto", "")).reshape(2, 3)
        along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
        across = np.sqrt(np.prod(factors) / np.linalg.norm(along * factors))
        geom.set("fromto", text((ends * factors).ravel()))
        geom.set("size", text(vector(geom.get("size", "")) * across))
        return np.full(3, across)
    if geom.get("pos"):
        geom.set("pos", text(vector(geom.get("pos", "")) * factors))
    turn = Rotation.from_quat(vector(geom.get("quat", "1 0 0 0")), scalar_first=True).as_matrix()
    axes = factors[:, None] * turn
    lengths = np.linalg.norm(axes, axis=0)
    if geom.get("quat") and np.ptp(factors) > 0:
        u, _, v = np.linalg.svd(axes / lengths)
        geom.set("quat", text(Rotation.from_matrix(u @ v).as_quat(scalar_first=True)))
    if geom.get("size"):
        _set_size(geom, vector(geom.get("size", "")), lengths)
    return lengths


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
