"""Snapshots of the world for privileged policies."""

from __future__ import annotations

import mujoco
import numpy as np

from vla_bench.sim.predicates import collision_geoms, joint_names
from vla_bench.sim.robot import FINGERS, GRIP_SITE
from vla_bench.sim.scene import Item, Scene
from vla_bench.types import Array, Boxes, Entity, JointState, Predicate, RegionState, WorldState

_GEOM = mujoco.mjtGeom


class Observer:
    """Reads `WorldState`s of one scene; what does not change is computed once."""

    def __init__(self, scene: Scene, model: mujoco.MjModel) -> None:
        self._scene, self._model = scene, model
        self._data = mujoco.MjData(model)
        self._grip = model.site(GRIP_SITE).id
        self._fingers = [model.joint(name).qposadr[0] for name in FINGERS]
        self._geoms = {
            name: np.flatnonzero(collision_geoms(model, item)) for name, item in scene.items.items()
        }
        self._half = {
            name: np.array([_half_size(model, int(g)) for g in ids]) for name, ids in self._geoms.items()
        }
        self._links = {
            name: tuple(model.body(model.geom_bodyid[g]).name for g in ids)
            for name, ids in self._geoms.items()
        }

    def snapshot(
        self, qpos: Array, time_ns: int, goal: tuple[Predicate, ...], satisfied: tuple[bool, ...]
    ) -> WorldState:
        """Return the world in the configuration `qpos`, with the goal and which of its literals hold."""
        data = self._data
        data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, data)
        return WorldState(
            time_ns=time_ns,
            grip_pos=data.site_xpos[self._grip].copy(),
            grip_mat=data.site_xmat[self._grip].reshape(3, 3).copy(),
            gripper_qpos=data.qpos[self._fingers].copy(),
            goal=goal,
            satisfied=satisfied,
            entities={name: self._entity(item, data) for name, item in self._scene.items.items()},
            regions={name: self._region(name, data) for name in self._scene.sites},
        )

    def _entity(self, item: Item, data: mujoco.MjData) -> Entity:
        body, geoms = data.body(item.body), self._geoms[item.name]
        centres, turns = data.geom_xpos[geoms], data.geom_xmat[geoms].reshape(-1, 3, 3)
        joints = () if item.movable else joint_names(self._model, item.name)
        return Entity(
            name=item.name,
            category=item.category.name,
            movable=item.movable,
            pos=body.xpos.copy(),
            mat=body.xmat.reshape(3, 3).copy(),
            boxes=Boxes(centres, turns, self._half[item.name], self._links[item.name]),
            joints={name: self._joint(name, data) for name in joints},
        )

    def _joint(self, name: str, data: mujoco.MjData) -> JointState:
        joint = self._model.joint(name)
        hinge = joint.type[0] == mujoco.mjtJoint.mjJNT_HINGE
        return JointState(
            kind="hinge" if hinge else "slide",
            qpos=float(data.qpos[joint.qposadr[0]]),
            limits=(float(joint.range[0]), float(joint.range[1])),
            anchor=data.xanchor[joint.id].copy(),
            axis=data.xaxis[joint.id].copy(),
            link=self._model.body(joint.bodyid[0]).name,
        )

    def _region(self, name: str, data: mujoco.MjData) -> RegionState:
        site, bound = self._scene.sites[name], data.site(name)
        return RegionState(
            name,
            bound.xpos.copy(),
            bound.xmat.reshape(3, 3).copy(),
            np.array(site.half),
            site.parent,
            site.joints,
        )


def _half_size(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Half sizes of the box around a collision geom, in the geom's frame."""
    size, kind = model.geom_size[geom], model.geom_type[geom]
    if kind == _GEOM.mjGEOM_SPHERE:
        return np.full(3, size[0])
    if kind == _GEOM.mjGEOM_CYLINDER:
        return np.array([size[0], size[0], size[1]])
    if kind == _GEOM.mjGEOM_CAPSULE:
        return np.array([size[0], size[0], size[1] + size[0]])
    if kind == _GEOM.mjGEOM_MESH:
        return model.geom_aabb[geom, 3:].copy()
    return size.copy()
