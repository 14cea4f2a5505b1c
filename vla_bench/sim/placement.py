"""Sampling of initial scenes, draw for draw as LIBERO does.

LIBERO draws from numpy's global legacy stream, so the order and number of draws are part of the protocol:

1. `randn(7)` for joint noise of magnitude zero;
2. one uniform for every open/close/turn-on/turn-off literal of the initial state, once for each time the
   model has been built in this environment: the original never clears its list of property samplers;
   (a driven joint draws where it starts; no task of LIBERO's has one)
3. places on the workspace in the order of the initial state, then places on and in sites, then on objects.
   Each attempt draws a range, x and y; an accepted attempt draws one angle for each axis.

A reset whose objects cannot be placed starts over (and the list of step 2 grows once more).
Facts: `envs/regions/*.py`, `envs/bddl_base_domain.py` of LIBERO commit 8f1084e.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from vla_bench.errors import DataError, PlacementError
from vla_bench.sim.categories import Range
from vla_bench.sim.moving import starting_range
from vla_bench.sim.rotations import Stream, draw_libero_rotation, draw_yaw, float32_rotation
from vla_bench.sim.scene import Item, Scene
from vla_bench.types import Predicate

PLACEMENTS = ("on", "in")  # the other literals of an initial state set joints

_ATTEMPTS = 5000
_RESETS = 100
_FINGER_GAP_M = 0.025  # kept free around built-in objects, so that a finger fits between two

Pose = tuple[np.ndarray, np.ndarray]  # position (3,) and quaternion wxyz (4,)


@dataclass(frozen=True, slots=True)
class Draw:
    """One sampled initial scene.

    Attributes:
        joints: Joint name → position, for articulated fixtures.
        poses: Item name → pose of its root body.
        builds: How often the model had been built when this reset succeeded.
    """

    joints: Mapping[str, float]
    poses: Mapping[str, Pose]
    builds: int


@dataclass(frozen=True, slots=True)
class _Spot:
    """One placement of the initial state: an item, and the rectangle its origin is drawn from.

    Attributes:
        item: What is placed.
        ranges: (x range, y range) alternatives, relative to the base.
        base: Placed poses and site positions → position that the ranges and the height are relative to.
        quat: Draws the orientation (w, x, y, z).
        shrink: Whether the ranges are shrunk by the item's radius.
        exclusive: Whether it must not overlap what is already placed.
        z_offset: Added to the height.
        carrier: The item it stands on or in, which must be placed before.
    """

    item: Item
    ranges: tuple[tuple[Range, Range], ...]
    base: Callable[[Mapping[str, Pose], Mapping[str, np.ndarray]], np.ndarray]
    quat: Callable[[Stream], np.ndarray]
    shrink: bool = False
    exclusive: bool = False
    z_offset: float = 0.0
    carrier: str | None = None


_ORIGIN = (((0.0, 0.0), (0.0, 0.0)),)


class Placer:
    """Samples initial scenes of one compiled scene from a stream."""

    def __init__(self, scene: Scene, model: mujoco.MjModel) -> None:
        self.scene = scene
        self._model = model
        self._data = mujoco.MjData(model)
        self._nominal = model.body_pos.copy(), model.body_quat.copy()
        self._properties = [p for p in map(self._property, scene.problem.init) if p is not None]
        self._spots = self._plan()

    @property
    def properties_per_build(self) -> int:
        """Draws of step 2 for each time the model is built."""
        return len(self._properties)

    def sample(self, stream: Stream, builds: int) -> Draw:
        """Draw one initial scene.

        Args:
            stream: What to draw from; advanced.
            builds: How often the original would have built the model by now, this reset included.

        Raises:
            PlacementError: No placement in 100 resets.
        """
        reason = ""
        for attempt in range(_RESETS):
            try:
                return self._attempt(stream, builds + attempt)
            except _NoRoomError as error:
                reason = str(error)
        raise PlacementError(f"{self.scene.problem.source}: {reason} in {_RESETS} resets")

    def _attempt(self, stream: Stream, builds: int) -> Draw:
        stream.randn(7)
        joints: dict[str, float] = {}
        for _ in range(builds):
            for names, (low, high) in self._properties:
                joints.update(dict.fromkeys(names, stream.uniform(low, high)))
        for drive in self.scene.problem.moving:
            joints[drive.joint] = stream.uniform(*starting_range(drive))
        sites = self._site_positions(joints)
        poses: dict[str, Pose] = {}
        for spot in self._spots:
            poses[spot.item.name] = self._place(spot, poses, sites, stream)
        return Draw(joints, poses, builds)

    def _place(
        self, spot: _Spot, poses: dict[str, Pose], sites: Mapping[str, np.ndarray], stream: Stream
    ) -> Pose:
        item, base = spot.item, spot.base(poses, sites)
        margin = item.radius if spot.shrink else 0.0
        z = spot.z_offset + base[2] - item.bottom
        for _ in range(_ATTEMPTS):
            (x0, x1), (y0, y1) = spot.ranges[stream.randint(len(spot.ranges))]
            x = stream.uniform(x0 + margin, x1 - margin) + base[0]
            y = stream.uniform(y0 + margin, y1 - margin) + base[1]
            if spot.exclusive and self._overlaps(spot, (x, y, z), poses):
                continue
            return np.array([x, y, z]), spot.quat(stream)
        raise _NoRoomError(f"no room for {item.name!r}")

    def _overlaps(self, spot: _Spot, pos: tuple[float, float, float], poses: dict[str, Pose]) -> bool:
        item, gap = spot.item, _FINGER_GAP_M if self.scene.place.builtin else 0.0
        for name, (other_pos, _) in poses.items():
            if name == spot.carrier and self.scene.place.builtin:
                continue  # LIBERO's own objects reach below what they stand in, so that they pass the test
            other = self.scene.items[name]
            distance = np.linalg.norm((pos[0] - other_pos[0], pos[1] - other_pos[1]))
            level = pos[2] - other_pos[2] <= other.top - item.bottom
            if level and distance <= other.radius + item.radius + gap:
                return True
        return False

    def _site_positions(self, joints: Mapping[str, float]) -> dict[str, np.ndarray]:
        """World positions of item sites before anything is placed, with the drawn joints set."""
        model, data = self._model, self._data
        placed = model.body_pos.copy(), model.body_quat.copy()
        model.body_pos[:], model.body_quat[:] = self._nominal
        data.qpos[:] = model.qpos0
        for name, value in joints.items():
            data.joint(name).qpos[0] = value
        mujoco.mj_kinematics(model, data)
        model.body_pos[:], model.body_quat[:] = placed
        return {name: data.site(name).xpos.copy() for name, site in self.scene.sites.items() if site.parent}

    # ── reading the initial state ──────────────────────────────────────────────────────────────────────

    def _property(self, literal: Predicate) -> tuple[tuple[str, ...], Range] | None:
        """Joints and range of an open/close/turn-on/turn-off literal."""
        if literal.name in PLACEMENTS:
            return None
        (name,) = literal.args
        site = self.scene.sites.get(name)
        item = self.scene.items.get(name if site is None else str(site.parent))
        articulation = item.category.articulation if item is not None else None
        if articulation is None or literal.name not in articulation.resets:
            raise self._refuse(literal, f"{name!r} has no joint that it sets")
        joints = site.joints if site is not None else self._item_joints(name)
        return joints, articulation.resets[literal.name]

    def _item_joints(self, name: str) -> tuple[str, ...]:
        names = (self._model.joint(i).name for i in range(self._model.njnt))
        return tuple(n for n in names if n.startswith(f"{name}_"))

    def _plan(self) -> list[_Spot]:
        """Spots in the order in which they are sampled; every item has one, after what it stands on or in."""
        groups: tuple[list[_Spot], ...] = ([], [], [], [])
        literals: dict[str, Predicate] = {}
        for literal in self.scene.problem.init:
            if literal.name in PLACEMENTS:
                group, spot = self._spot(literal)
                if spot.item.name in literals:
                    raise self._refuse(literal, f"{spot.item.name!r} is already placed")
                literals[spot.item.name] = literal
                groups[group].append(spot)
        spots = [spot for group in groups for spot in group]
        placed: set[str] = set()
        for spot in spots:
            if spot.carrier is not None and spot.carrier not in placed:
                raise self._refuse(literals[spot.item.name], f"{spot.carrier!r} is not placed before it")
            placed.add(spot.item.name)
        for name in self.scene.items:
            if name not in placed:
                problem = self.scene.problem
                raise DataError(
                    problem.source, f"(:init …) does not place {name!r}", line=problem.lines[name]
                )
        return spots

    def _spot(self, literal: Predicate) -> tuple[int, _Spot]:
        """The placement that an on/in literal asks for, and its group; groups are sampled in turn."""
        name, target = literal.args
        if name not in self.scene.items:
            raise self._refuse(literal, f"{name!r} is not an object or fixture that can be placed")
        item, site = self.scene.items[name], self.scene.sites.get(target)
        if literal.name == "on" and target in self.scene.problem.objects:
            return 3, self._on_item(item, target)
        if site is None:
            raise self._refuse(literal, f"{target!r} is neither a region nor an object to stand on")
        if site.parent is None:
            return 0, self._on_workspace(item, target)
        return (2, self._in_site(item, target)) if literal.name == "in" else (1, self._on_site(item, target))

    def _on_workspace(self, item: Item, target: str) -> _Spot:
        place, region = self.scene.place, self.scene.problem.regions[target]
        ranges = tuple(((x0, x1), (y0, y1)) for x0, y0, x1, y1 in region.ranges)
        base = np.array(place.offset)
        if item.movable:
            quat = self._turn(item, target)
            z_offset = self._clearance(item, target)
            return _Spot(item, ranges, lambda *_: base, quat, place.shrink_ranges, True, z_offset)
        yaw = min(region.yaw_rotation), max(region.yaw_rotation)
        return _Spot(item, ranges, lambda *_: base, draw_yaw(yaw), z_offset=place.fixture_z_offset)

    def _on_site(self, item: Item, target: str) -> _Spot:
        x, y, _ = self.scene.sites[target].half
        ranges = (((-x / 2, x / 2), (-y / 2, y / 2)),)
        parent = self.scene.items[str(self.scene.sites[target].parent)]
        quat = self._turn(item, target)
        if self.scene.place.builtin:  # sites lie on the surface, and may be smaller than what stands there
            base = _at_site(parent, target, self._clearance(item, target))
            return _Spot(item, ranges, base, quat, exclusive=True, carrier=parent.name)
        return _Spot(
            item, ranges, _at_site(parent, target, parent.top), quat, True, True, carrier=parent.name
        )

    def _in_site(self, item: Item, target: str) -> _Spot:
        parent = self.scene.items[str(self.scene.sites[target].parent)]
        quat = self._turn(item, target)
        return _Spot(item, _ORIGIN, _at_site(parent, target, 0.0), quat, exclusive=True, carrier=parent.name)

    def _on_item(self, item: Item, target: str) -> _Spot:
        top = np.array([0.0, 0.0, self.scene.items[target].top])
        quat = self._turn(item, target)
        return _Spot(
            item, _ORIGIN, lambda poses, _: poses[target][0] + top, quat, z_offset=0.01, carrier=target
        )

    def _turn(self, item: Item, target: str) -> Callable[[Stream], np.ndarray]:
        """Draws the orientation of an object: LIBERO's, or the one that a built-in task's region asks for."""
        if not self.scene.place.builtin:
            return draw_libero_rotation(item.category.rotation)
        region = self.scene.problem.regions.get(target)
        if region is None:
            return draw_yaw((0.0, 0.0))
        return draw_yaw((min(region.yaw_rotation), max(region.yaw_rotation)), region.tipped)

    def _clearance(self, item: Item, target: str) -> float:
        """Height (m) above its support at which the lowest point of an object starts.

        A thing that lies tipped over is taken to be as high above its origin as it is wide.
        """
        if not self.scene.place.builtin:
            return 0.01
        tipped = self.scene.problem.regions[target].tipped
        return 0.002 + (item.radius + item.bottom if tipped else 0.0)

    def _refuse(self, literal: Predicate, why: str) -> DataError:
        return DataError(self.scene.problem.source, f"cannot start with {literal}: {why}", line=literal.line)


def _at_site(parent: Item, site: str, lift: float) -> Callable:
    """Base of a placement at a site of `parent`: the site's offset turned with the parent, as LIBERO does."""

    def base(poses: Mapping[str, Pose], sites: Mapping[str, np.ndarray]) -> np.ndarray:
        pos, quat = poses[parent.name]
        return pos + [0.0, 0.0, lift] + float32_rotation(quat) @ sites[site]

    return base


class _NoRoomError(Exception):
    """An item found no place in the allowed number of attempts."""
