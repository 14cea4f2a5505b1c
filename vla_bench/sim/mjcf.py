"""MJCF parts: read an XML file, make it self-contained, name it, and merge it into a scene.

The order of elements and the generated names follow robosuite 1.4.0's composer, because MuJoCo's ids, and
with them contact order and rounding, follow the order of the document.
"""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vla_bench.errors import DataError, MissingDataError
from vla_bench.sim.assets import remedy

# attributes that hold the name of an element, its own or another's
_NAME_ATTRIBUTES = frozenset(
    (
        *("name", "material", "texture", "mesh", "hfield", "joint", "joint1", "joint2", "jointinparent"),
        *("geom", "geom1", "geom2", "body", "body1", "body2", "site", "slidesite", "cranksite", "target"),
        *("actuator", "tendon", "tendon1", "tendon2", "objname", "fixed", "prefix"),
    )
)


class Part:
    """One MJCF file: absolute file paths, defaults written into the elements, comments gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            root = ET.fromstring(path.read_bytes())
        except FileNotFoundError as error:
            raise MissingDataError(f"{path}: no such model file{remedy(path)}") from error
        except ET.ParseError as error:
            problem = f"is not valid XML: {error}{remedy(path)}"
            raise DataError(path, problem, line=error.position[0]) from error
        self.root = root
        self.worldbody = self._section("worldbody")
        self.asset = self._section("asset")
        _inline_defaults(root)
        for element in self.asset.iter():
            if element.get("file"):
                element.set("file", str((path.parent / element.get("file", "")).absolute()))

    def _section(self, tag: str) -> ET.Element:
        found = self.root.find(tag)
        return ET.SubElement(self.root, tag) if found is None else found

    def add_prefix(self, prefix: str) -> None:
        """Put `prefix` before every name and every reference to a name."""
        for element in self.root.iter():
            for key in _NAME_ATTRIBUTES.intersection(element.keys()):
                if not element.attrib[key].startswith(prefix):
                    element.set(key, prefix + element.attrib[key])

    def name_geoms(self, suffixes: dict[str, str]) -> None:
        """Name anonymous geoms g0, g1, … within each group, with the group's suffix."""
        counts = dict.fromkeys(suffixes.values(), 0)
        for geom in self.root.iter("geom"):
            if geom.get("name") is None:
                suffix = suffixes[geom.get("group", "0")]
                geom.set("name", f"g{counts[suffix]}{suffix}")
                counts[suffix] += 1

    def recolor_collision_geoms(self, rgba: str, exclude: str = "") -> None:
        """Give collision geoms (group 0, never drawn) one colour and no material."""
        for geom in self.worldbody.iter("geom"):
            if geom.get("group", "0") == "0" and geom.get("name") != (exclude or None):
                geom.set("rgba", rgba)
                geom.attrib.pop("material", None)

    def site_pos(self, name: str) -> np.ndarray:
        """Position of a site that marks the extent of an object (`bottom_site`, `top_site`, …), m."""
        site = self.worldbody.find(f"./body/site[@name='{name}']")
        if site is None:
            known = [s.get("name") for s in self.worldbody.findall("./body/site")]
            raise DataError(self.path, f"site {name!r} is missing; the file has {known}")
        return vector(site.get("pos", "0 0 0"))


def object_body(part: Part, prefix: str, *, movable: bool) -> ET.Element:
    """Return the body called "object" of an object's file, prefixed, as `<prefix>main`.

    Movable objects get a free joint; all get a site at the origin.
    """
    found = part.worldbody.find("./body/body[@name='object']")
    if found is None:
        raise DataError(part.path, "has no <body name='object'> below its first body")
    body = copy.deepcopy(found)
    body.set("name", "main")
    for number, geom in enumerate(body.iter("geom")):
        if geom.get("name") is None:
            geom.set("name", f"g{number}")
    if movable:
        ET.SubElement(body, "joint", type="free", damping="0.0005", name="joint0")
    ET.SubElement(
        body, "site", pos="0 0 0", size="0.002 0.002 0.002", rgba="1 0 0 0", type="sphere", group="0",
        name="default_site",
    )  # fmt: skip
    for element in body.iter():
        for key in _NAME_ATTRIBUTES.intersection(element.keys()):
            element.set(key, prefix + element.attrib[key])
    return body


def merge_assets(into: ET.Element, assets: Iterable[ET.Element]) -> None:
    """Append assets whose (tag, name) is not there yet; the first of a name wins."""
    present = {(e.tag, e.get("name")) for e in into}
    for element in assets:
        key = (element.tag, element.get("name"))
        if key not in present:
            into.append(element)
            present.add(key)


def find_body(root: ET.Element, name: str) -> ET.Element:
    """The body called `name` anywhere below `root`."""
    return next(body for body in root.iter("body") if body.get("name") == name)


def vector(text: str) -> np.ndarray:
    """Parse numbers separated by white space."""
    return np.array([float(x) for x in text.split()])


def text(values: Iterable[float]) -> str:
    """Write numbers so that they are read back exactly."""
    return " ".join(repr(float(v)) for v in values)


def _inline_defaults(root: ET.Element) -> None:
    """Write the attributes of default classes into the elements that name them, and drop <default>."""
    for default in root.findall("default"):
        classes = {cls.get("class"): {child.tag: child.attrib for child in cls} for cls in default}
        for element in root.iter():
            name = element.get("class")
            if name in classes and element is not default:
                element.attrib.pop("class")
                for key, value in classes[name].get(element.tag, {}).items():
                    element.attrib.setdefault(key, value)
        root.remove(default)
