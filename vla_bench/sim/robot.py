"""The arm: robosuite 1.4.0's Panda with its gripper, set up as LIBERO does."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vla_bench.sim.mjcf import Part, find_body, merge_assets, text
from vla_bench.sim.workspaces import Workspace

# LIBERO's rest pose (rad); robosuite's own default differs
REST_QPOS = np.array([0.0, -1.61037389e-01, 0.0, -2.44459747e00, 0.0, 2.22675220e00, np.pi / 4])
GRIPPER_REST_QPOS = np.array([0.020833, -0.020833])

JOINTS = tuple(f"robot0_joint{i}" for i in range(1, 8))
FINGERS = ("gripper0_finger_joint1", "gripper0_finger_joint2")
ARM_ACTUATORS = tuple(f"robot0_torq_j{i}" for i in range(1, 8))
GRIPPER_ACTUATORS = ("gripper0_gripper_finger_joint1", "gripper0_gripper_finger_joint2")
GRIP_SITE = "gripper0_grip_site"
GRIPPER_BODY = "gripper0_right_gripper"
FINGER_BODIES = ("gripper0_leftfinger", "gripper0_rightfinger")
HAND_BODY = "robot0_right_hand"
HAND_CAMERA = "robot0_eye_in_hand"

_DAMPING = (0.1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01)
_GEOM_SUFFIXES = {"0": "_col", "1": "_vis"}
# what is drawn of the arm where a picture must cost little
_LIGHT_LOOK = Path(__file__).parent / "data" / "robots" / "panda_light.xml"
_MERGED = ("actuator", "sensor", "tendon", "equality", "contact")


def build_robot(assets: Path, place: Workspace) -> Part:
    """Return arm, gripper and mount as one part, standing where the workspace wants it.

    Args:
        assets: robosuite's `models/assets` folder.
        place: The workspace.
    """
    look = Part(_LIGHT_LOOK) if place.builtin else None
    arm = _prefixed(assets / "robots/panda/robot.xml", "robot0_", "0 0.5 0 1", look)
    for number, name in enumerate(JOINTS):
        joint = next(j for j in arm.worldbody.iter("joint") if j.get("name") == name)
        joint.attrib.setdefault("frictionloss", "0.1")
        joint.attrib.setdefault("armature", repr(5.0 / (number + 1)))
        joint.set("damping", repr(_DAMPING[number]))
    base = find_body(arm.worldbody, "robot0_base")
    base.set("pos", text(place.robot_pos))

    if place.pedestal:
        mount = _prefixed(assets / "mounts/rethink_mount.xml", "mount0_", "0.5 0.5 0 1", look)
        find_body(mount.worldbody, "mount0_base").set("pos", "0.0 0.0 0.01")
        _merge(arm, mount, base)
    else:
        ET.SubElement(base, "body", name="mount0_base", pos="0.0 0.0 0.0")

    gripper = _prefixed(assets / "grippers/panda_gripper.xml", "gripper0_", "0 0 0.5 1", look)
    _merge(arm, gripper, find_body(arm.worldbody, HAND_BODY))
    return arm


def _prefixed(path: Path, prefix: str, collision_rgba: str, look: Part | None) -> Part:
    part = Part(path)
    if look is not None:
        _dress(part, look)
    part.name_geoms(_GEOM_SUFFIXES)
    part.add_prefix(prefix)
    part.recolor_collision_geoms(collision_rgba)
    return part


def _dress(part: Part, look: Part) -> None:
    """Replace what is drawn of each body by what `look` draws of the body of that name."""
    drawn = {body.get("name"): body for body in look.worldbody}
    for body in list(part.worldbody.iter("body")):
        for geom in body.findall("geom[@group='1']"):
            body.remove(geom)
        for geom in drawn.get(body.get("name"), ()):
            seen = {"group": "1", "contype": "0", "conaffinity": "0"}
            body.append(ET.Element("geom", {**geom.attrib, **seen}))
    used = {geom.get(kind) for geom in part.root.iter("geom") for kind in ("mesh", "material")}
    for element in list(part.asset):
        if element.get("name") not in used:
            part.asset.remove(element)
    part.asset.extend(copy.deepcopy(m) for m in look.asset if m.get("name") in used)


def _merge(into: Part, part: Part, parent: ET.Element) -> None:
    parent.extend(list(part.worldbody))
    merge_assets(into.asset, part.asset)
    append_sections(into.root, part.root)


def append_sections(into: ET.Element, other: ET.Element, tags: Iterable[str] = _MERGED) -> None:
    """Append actuators, sensors and the like of `other` to those of `into`."""
    for tag in tags:
        source = other.find(tag)
        if source is not None and len(source):
            target = into.find(tag)
            (ET.SubElement(into, tag) if target is None else target).extend(list(source))
