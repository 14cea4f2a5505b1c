"""The literals of goals, evaluated on the numbers that the last physics step left behind.

Positions and contacts are those computed before the last integration, as in LIBERO (no extra forward pass).
Thresholds and conventions: `envs/object_states/base_object_states.py`, `envs/objects/site_object.py` of
LIBERO commit 8f1084e.
"""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np

from vla_bench.errors import DataError
from vla_bench.sim.robot import FINGER_BODIES, GRIPPER_BODY
from vla_bench.sim.scene import Item, Scene
from vla_bench.types import Predicate

Test = Callable[[], bool]

_LIFTED_M = 0.05
_UPRIGHT_COS = float(np.cos(np.radians(15.0)))
_TOPPLED_COS = 0.5
_NEAR_M = 0.08


class Predicates:
    """Compiles literals into tests bound to one model and its data."""

    def __init__(self, scene: Scene, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._scene, self._model, self._data = scene, model, data
        self._surface = data.body(scene.place.surface_body)
        self._surface_z = float(model.body_pos[self._surface.id, 2])

    def compile(self, literal: Predicate) -> Test:
        """Return a function without arguments that evaluates `literal` now.

        Raises:
            DataError: The literal cannot be evaluated, for example `open` of something without a joint.
        """
        return getattr(self, f"_{literal.name}")(literal, *literal.args)

    # ── places ─────────────────────────────────────────────────────────────────────────────────────────

    def _in(self, literal: Predicate, name: str, target: str) -> Test:
        """The origin of `name` lies inside the box of a region, whose floor counts 10 mm lower."""
        site = self._scene.sites.get(target)
        if site is None:
            raise self._refuse(literal, f"{target!r} is not a region")
        half = np.array(site.half)
        bound, pos = self._data.site(target), self._item_pos(literal, name)

        def test() -> bool:
            extent = np.abs(bound.xmat.reshape(3, 3) @ half)
            low = bound.xpos - extent
            low[2] -= 0.01
            return bool(np.all(pos > low) and np.all(pos < bound.xpos + extent))

        return test

    def _on(self, literal: Predicate, name: str, target: str) -> Test:
        """`name` rests on an object (origins within 30 mm) or on a region; it touches what carries it."""
        pos = self._item_pos(literal, name)
        site = self._scene.sites.get(target)
        if site is None:
            base = self._item_pos(literal, target)
            touching = self._touching(name, target)
            return lambda: bool(
                base[2] <= pos[2] and touching() and np.linalg.norm(base[:2] - pos[:2]) < 0.03
            )
        half = np.array(site.half)
        bound = self._data.site(target)
        touching = self._touching(name, site.parent) if site.parent else None

        def test() -> bool:
            d = bound.xmat.reshape(3, 3) @ (pos - bound.xpos)
            above = half[2] - 0.005 < d[2] < half[2] + 0.10 and np.all(np.abs(d[:2]) < half[:2])
            return bool(above and (touching is None or touching()))

        return test

    def _up(self, literal: Predicate, name: str) -> Test:
        pos = self._item_pos(literal, name)
        return lambda: bool(pos[2] >= 1.0)

    def _outof(self, literal: Predicate, name: str, target: str) -> Test:
        """`name` is not in a region and does not touch what carries the region."""
        inside = self._in(literal, name, target)
        parent = self._scene.sites[target].parent
        touching = self._touching(name, parent) if parent else None
        return lambda: not inside() and (touching is None or not touching())

    def _near(self, literal: Predicate, name: str, other: str) -> Test:
        """`name` rests on the workspace, and the circles around both are at most 8 cm apart."""
        one, two, rests = (
            self._item_pos(literal, name), self._item_pos(literal, other), self._touching_workspace(name)
        )  # fmt: skip
        items = self._scene.items
        reach = items[name].radius + items[other].radius + _NEAR_M
        return lambda: bool(np.hypot(*(one - two)[:2]) < reach) and rests()

    def _poured(self, literal: Predicate, name: str, target: str) -> Test:
        """The middle of `name` lies inside the box of a region, and the gripper does not touch `name`."""
        inside = self._in(literal, name, target)
        geoms = collision_geoms(self._model, self._scene.items[name])
        in_hand = self._between(geoms, self._geoms_below(GRIPPER_BODY))
        return lambda: inside() and not in_hand()

    def _upright(self, literal: Predicate, name: str) -> Test:
        """The z axis of `name` is within 15° of the vertical."""
        self._item_pos(literal, name)
        mat = self._data.body(self._scene.items[name].body).xmat
        return lambda: bool(mat[8] > _UPRIGHT_COS)

    def _toppled(self, literal: Predicate, name: str) -> Test:
        """`name` rests on the workspace, with its z axis 60° or more from the vertical."""
        self._item_pos(literal, name)
        mat, rests = self._data.body(self._scene.items[name].body).xmat, self._touching_workspace(name)
        return lambda: bool(abs(mat[8]) < _TOPPLED_COS) and rests()

    # ── in the hand ────────────────────────────────────────────────────────────────────────────────────

    def _held(self, literal: Predicate, name: str) -> Test:
        """Both fingers touch `name`."""
        self._item_pos(literal, name)
        geoms = collision_geoms(self._model, self._scene.items[name])
        left, right = (self._between(geoms, self._geoms_below(finger)) for finger in FINGER_BODIES)
        return lambda: left() and right()

    def _lifted(self, literal: Predicate, name: str) -> Test:
        """All of `name` is 5 cm above the workspace's surface, and it touches nothing but the gripper."""
        origin = self._item_pos(literal, name)
        geoms = collision_geoms(self._model, self._scene.items[name])
        held, others = self._geoms_below(GRIPPER_BODY), np.ones(self._model.ngeom, dtype=bool)
        others &= ~(geoms | held)
        in_hand, elsewhere = self._between(geoms, held), self._between(geoms, others)
        ids = np.flatnonzero(geoms)
        middle, half = self._model.geom_aabb[ids, :3], self._model.geom_aabb[ids, 3:]
        height = self._scene.place.offset[2] + _LIFTED_M
        pos, mat = self._data.geom_xpos, self._data.geom_xmat

        def test() -> bool:
            if origin[2] < height:  # spares the rest while it lies on the table
                return False
            down = mat[ids, 6:]
            lowest = pos[ids, 2] + np.sum(down * middle - np.abs(down) * half, axis=1)
            raised = self._surface.xpos[2] - self._surface_z  # by a variation of the table's height
            return bool(lowest.min() > height + raised) and in_hand() and not elsewhere()

        return test

    # ── states ─────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, literal: Predicate, name: str) -> Test:
        return self._joints(literal, name, any)

    def _close(self, literal: Predicate, name: str) -> Test:
        return self._joints(literal, name, all)

    def _turnon(self, literal: Predicate, name: str) -> Test:
        return self._joints(literal, name, any)

    def _turnoff(self, literal: Predicate, name: str) -> Test:
        return self._joints(literal, name, all)

    def _joints(self, literal: Predicate, name: str, quantifier: Callable[..., bool]) -> Test:
        site = self._scene.sites.get(name)
        item = self._scene.items.get(name if site is None else str(site.parent))
        articulation = item.category.articulation if item is not None else None
        if articulation is None or literal.name not in articulation.tests:
            known = f"; it can be tested for {', '.join(articulation.tests)}" if articulation else ""
            raise self._refuse(literal, f"{name!r} has no joint that decides it{known}")
        names = site.joints if site is not None else joint_names(self._model, name)
        address = [self._model.joint(joint).qposadr[0] for joint in names]
        passes, qpos = articulation.tests[literal.name], self._data.qpos
        return lambda: bool(quantifier(passes(qpos[a]) for a in address))

    # ── parts ──────────────────────────────────────────────────────────────────────────────────────────

    def _item_pos(self, literal: Predicate, name: str) -> np.ndarray:
        item = self._scene.items.get(name)
        if item is None:
            raise self._refuse(literal, f"{name!r} is not an object or fixture with a body")
        return self._data.body(item.body).xpos

    def _touching(self, a: str, b: str | None) -> Test:
        first, second = (collision_geoms(self._model, self._scene.items[str(x)]) for x in (a, b))
        return self._between(first, second)

    def _touching_workspace(self, name: str) -> Test:
        """`name` touches the floor or the surface that the workspace is about."""
        model, place = self._model, self._scene.place
        surface = (0, model.body(place.surface_body).id)
        fixed = np.isin(model.body_rootid[model.geom_bodyid], surface) & (model.geom_group == 0)
        return self._between(collision_geoms(model, self._scene.items[name]), fixed)

    def _geoms_below(self, body: str) -> np.ndarray:
        """(ngeom,) bool: geoms of a body and of the bodies that it carries."""
        model = self._model
        below = np.zeros(model.nbody, dtype=bool)
        below[model.body(body).id] = True
        for child in range(1, model.nbody):  # parents come before their children
            below[child] |= below[model.body_parentid[child]]
        return below[model.geom_bodyid]

    def _between(self, first: np.ndarray, second: np.ndarray) -> Test:
        """Whether any geom of one set touches one of the other; the sets are (ngeom,) bool."""
        data = self._data

        def test() -> bool:
            pairs = data.contact.geom
            one, two = pairs[:, 0], pairs[:, 1]
            return bool(np.any((first[one] & second[two]) | (first[two] & second[one])))

        return test

    def _refuse(self, literal: Predicate, why: str) -> DataError:
        return DataError(self._scene.problem.source, f"cannot evaluate {literal}: {why}", line=literal.line)


def collision_geoms(model: mujoco.MjModel, item: Item) -> np.ndarray:
    """(ngeom,) bool: collision geoms (group 0) of an item."""
    root = model.body(item.body).id
    return (model.body_rootid[model.geom_bodyid] == root) & (model.geom_group == 0)


def joint_names(model: mujoco.MjModel, item: str) -> tuple[str, ...]:
    """Joints of a fixture, in the order of the model."""
    names = (model.joint(i).name for i in range(model.njnt))
    return tuple(n for n in names if n.startswith(f"{item}_"))
