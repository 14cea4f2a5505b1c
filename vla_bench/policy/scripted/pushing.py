"""Where to push a link with closed fingers so that its joint moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.geometry import UP, unit
from vla_bench.policy.scripted.grasps import Grasp
from vla_bench.policy.scripted.joints import Drive, direction, lever, likely_end, moved
from vla_bench.policy.scripted.motion import Pose
from vla_bench.policy.scripted.world import World
from vla_bench.types import Array

_AIR = 0.004  # distance (m) of the fingers from the face when the push begins
_TILTS = np.radians([90.0, 60.0, 40.0, 20.0, 0.0])  # from straight down to level


def pushes(world: World, drive: Drive, arm: Arm) -> list[Grasp]:
    """Poses of the closed hand just before faces of the link that look against its motion, best first.

    What the hand touches there, on its way in or on its way with the link, costs.
    """
    joint = drive.state(world)
    link = world.link_points(drive.entity, joint.link)
    remaining = likely_end(drive.remaining(world), joint)
    sign = float(np.sign(remaining))
    ways = direction(link, joint, sign)
    contacts = _backs(link, ways, joint.kind == "hinge", lever(link, joint))
    rest = world.rest_points(drive.entity, joint.link)
    low, high = link.min(axis=0) - 0.3, link.max(axis=0) + 0.3
    rest = rest[np.all((rest > low) & (rest < high), axis=1)]
    found = []
    for index in contacts:
        way = ways[index]
        heading = unit(way * (1.0, 1.0, 0.0))
        if np.linalg.norm(heading) < 0.5:
            continue
        for tilt in _TILTS:
            pose = _pose(link[index], way, heading, tilt)
            if _touches(pose, link) or pose.pos[2] - gripper.TIP_Z < world.floor + 0.004:
                continue
            # What stands in the way may give way, or move along in the drawer; at the start, nothing may.
            blocked = 5.0 * _touches(pose, rest) + 0.1 * sum(
                _touches(moved(pose, joint, share * remaining), rest) for share in (0.5, 1.0)
            )
            leverage = lever(link[index][None], joint)[0] if joint.kind == "hinge" else 0.0
            sideways = np.linalg.norm(np.cross(link[index] - link.mean(axis=0), way)) if not leverage else 0.0
            end = moved(pose, joint, remaining)
            cost = 0.15 * (1.0 - tilt / (np.pi / 2)) + 0.3 * sideways - 0.6 * leverage
            found.append(Grasp(pose, cost + blocked + arm.strain(pose) + arm.strain(end)))
    return sorted(found, key=lambda push: push.cost)


def _backs(points: Array, ways: Array, hinged: bool, levers: Array) -> NDArray[np.intp]:
    """Indices of a sample of points that lie on faces which look against the motion."""
    if hinged:
        far = np.flatnonzero(levers > 0.6 * levers.max())
        far = far[:: max(1, len(far) // 400)]
        rows = np.array(
            [row for row in far if np.min((points - points[row]) @ ways[row]) > -0.03], dtype=np.intp
        )
    else:
        along = points @ ways[0]
        rows = np.flatnonzero(along < along.min() + 0.04)
    return rows[:: max(1, len(rows) // 40)]


def _pose(contact: Array, way: Array, heading: Array, tilt: float) -> Pose:
    """The closed hand with its finger tips behind `contact`, approaching at `tilt` below the horizontal."""
    z = np.cos(tilt) * heading - np.sin(tilt) * UP
    x = unit(np.cross(UP, heading))
    mat: Array = np.stack([x, np.cross(z, x), z], axis=1).astype(np.float64)
    # Half the hand's extent along the way: thin for hanging fingers, the tip for level ones.
    depth = np.sin(tilt) * 0.0105 + np.cos(tilt) * gripper.TIP_Z
    return Pose(contact - (depth + _AIR) * way, mat)


def _touches(pose: Pose, points: Array) -> bool:
    """Whether the closed hand contains any of the points."""
    local = (points - pose.pos) @ pose.mat
    low, high = gripper.boxes(0.0, 0.05)
    local = local[np.all((local > low.min(axis=0) - 0.002) & (local < high.max(axis=0) + 0.002), axis=1)]
    inside = np.all((local[:, None] > low - 0.002) & (local[:, None] < high + 0.002), axis=2)
    return bool(inside.any())
