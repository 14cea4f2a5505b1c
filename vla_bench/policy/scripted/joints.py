"""How the links of a fixture move, and where to push or hold them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_bench.policy.scripted.geometry import rotation
from vla_bench.policy.scripted.motion import Pose
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array, Entity, JointState, Predicate, RegionState, WorldState

# Share of the range at which a joint counts as opened where no literal says so.
_OPENED = 0.85
_AWAY = ("open", "turnon")
ACTUATED = ("open", "close", "turnon", "turnoff")


@dataclass(frozen=True, slots=True)
class Drive:
    """A joint and where it shall go.

    Attributes:
        entity: Name of the fixture.
        joint: Name of the joint.
        target: Position (rad or m) at the end of the way, a limit.
    """

    entity: str
    joint: str
    target: float

    def state(self, world: World) -> JointState:
        """The joint now."""
        return world.entity(self.entity).joints[self.joint]

    def remaining(self, world: World) -> float:
        """Signed way (rad or m) to the target."""
        return self.target - self.state(world).qpos


def rest_end(joint: JointState) -> float:
    """The limit at which a drawer or door is shut and a knob is off: the one nearer to zero."""
    return min(joint.limits, key=abs)


def away_end(joint: JointState) -> float:
    """The limit at which a drawer or door is open and a knob is on."""
    return max(joint.limits, key=abs)


def opened_share(joint: JointState) -> float:
    """0 = at the closed end, 1 = at the open end."""
    closed, opened = rest_end(joint), away_end(joint)
    return (joint.qpos - closed) / (opened - closed)


def likely_end(remaining: float, joint: JointState) -> float:
    """Signed way (rad or m) that a literal probably asks for: doors and knobs count before the limit."""
    return 0.65 * remaining if joint.kind == "hinge" and abs(remaining) > 0.5 else remaining


def joints_of(state: WorldState, name: str) -> tuple[Entity, tuple[str, ...]] | None:
    """The fixture and the joints that a literal about `name` (a fixture or a region of one) speaks of."""
    region = state.regions.get(name)
    if region is None:
        entity = state.entities[name]
        return (entity, tuple(entity.joints)) if entity.joints else None
    if region.parent is None or not region.joints:
        return None
    return state.entities[region.parent], region.joints


def is_shut(state: WorldState, region: RegionState) -> bool:
    """Whether a region moves with joints of which none is open."""
    if region.parent is None or not region.joints:
        return False
    joints = state.entities[region.parent].joints
    return all(opened_share(joints[name]) < _OPENED for name in region.joints)


def drive_for(state: WorldState, literal: Predicate) -> Drive | None:
    """The joint to move for open, close, turnon or turnoff: `any` joint opens, `all` joints close.

    Returns None when every joint is where the literal wants it, to a tenth of its range.
    """
    found = joints_of(state, literal.args[0])
    if found is None:
        return None
    entity, names = found
    away = literal.name in _AWAY
    shares = {name: opened_share(entity.joints[name]) for name in names}
    name = max(shares, key=lambda n: shares[n])
    if away and shares[name] > 0.97:
        return None
    joint = entity.joints[name]
    return Drive(entity.name, name, away_end(joint) if away else rest_end(joint))


def moved(pose: Pose, joint: JointState, by: float) -> Pose:
    """A pose that is fixed to the joint's link, after the joint has moved `by` (rad or m)."""
    if joint.kind == "slide":
        return Pose(pose.pos + by * joint.axis, pose.mat)
    turn = rotation(joint.axis, by)
    return Pose(joint.anchor + turn @ (pose.pos - joint.anchor), turn @ pose.mat)


def direction(points: Array, joint: JointState, sign: float) -> Array:
    """(N, 3) unit directions in which points of the link move when the joint moves with `sign`."""
    if joint.kind == "slide":
        return np.broadcast_to(sign * joint.axis, points.shape)
    tangent = sign * np.cross(joint.axis, points - joint.anchor)
    return tangent / np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)


def lever(points: Array, joint: JointState) -> Array:
    """(N,) distance (m) of points from the axis of a hinge."""
    offset = points - joint.anchor
    return np.linalg.norm(offset - np.outer(offset @ joint.axis, joint.axis), axis=1)


def is_knob(points: Array, joint: JointState) -> bool:
    """Whether the axis of a hinge passes through the middle of its link."""
    if joint.kind == "slide":
        return False
    centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
    return bool(lever(centre[None], joint)[0] < 0.35 * lever(points, joint).max())


def handle(points: Array, joint: JointState) -> NDArray[np.bool_]:
    """(N,) which points of a link are its handle: what stands out in the way it opens; of a knob, its top."""
    sign = float(np.sign(away_end(joint) - rest_end(joint)))
    if is_knob(points, joint):
        heights = points @ joint.axis * np.sign(joint.axis[2] + 1e-9)
        return heights > heights.max() - 0.03
    if joint.kind == "slide":
        out = points @ (sign * joint.axis)
        return out > out.max() - 0.018
    # A door: measured from the plane through the axis and the link's middle.
    centre = points.mean(axis=0)
    normal = direction(centre[None], joint, sign)[0]
    out = (points - joint.anchor) @ normal
    levers = lever(points, joint)
    return (out > out.max() - 0.018) & (levers > 0.5 * levers.max())
