"""From a BDDL problem to one compiled MuJoCo model.

Arena, robot, objects and fixtures are merged in robosuite's order into one XML document that is compiled
from text; a model saved by MuJoCo loses `inertiagrouprange` and with it the masses, so nothing is ever
rebuilt from a saved model.
"""

from __future__ import annotations

import ctypes
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco

from vla_bench.bddl import Problem, read_problem
from vla_bench.errors import DataError, UnknownNameError, VlaBenchError
from vla_bench.sim import categories
from vla_bench.sim.assets import check_files, remedy, robosuite_assets
from vla_bench.sim.categories import Category
from vla_bench.sim.mjcf import Part, merge_assets, object_body
from vla_bench.sim.robot import append_sections, build_robot
from vla_bench.sim.workspaces import Workspace, build_arena, workspace

# Textures, with a material each, of pictures alone: for things without a texture that are to look otherwise.
# Name → type: planes take flat ones, everything else cubes, which look right from all sides.
SPARE_TEXTURES = {"spare0": "2d", "spare1": "2d", **{f"spare{number}": "cube" for number in range(2, 10)}}
_SPARE_TEXTURE_PX = {"2d": "256", "cube": "128"}

_TETRAHEDRON = "0 0 0 .01 0 0 0 .01 0 0 0 .01"
_COMPILER_CACHE_BYTES = 100 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """An object or fixture of a scene.

    Attributes:
        name: Instance name.
        category: What it is.
        movable: Whether it has a free joint.
        radius: Horizontal radius used in placement, m.
        bottom, top: z of its lowest and highest point in its own frame, m.
    """

    name: str
    category: Category
    movable: bool
    radius: float
    bottom: float
    top: float

    @property
    def body(self) -> str:
        """Root body."""
        return f"{self.name}_main"


@dataclass(frozen=True, slots=True)
class Site:
    """A region as a site of the model.

    Attributes:
        name: Site and region name.
        half: (3,) half sizes, m.
        parent: Item that carries it, or None for a zone of the workspace.
        joints: Joints of the body that carries it.
    """

    name: str
    half: tuple[float, float, float]
    parent: str | None
    joints: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """A task's world before it is compiled: the XML and what its names mean."""

    problem: Problem
    place: Workspace
    items: Mapping[str, Item]
    sites: Mapping[str, Site]
    xml: str

    def physics_model(self) -> mujoco.MjModel:
        """Compile the scene without what is only seen: same names, ids and physics, a fraction of the memory.

        Raises:
            MissingDataError: A mesh is not there; says how to get it.
            DataError: MuJoCo refuses it, for example for a truncated mesh; names the file.
        """
        root = self._untextured()
        only_seen = {"contype": "0", "conaffinity": "0"}.items()
        touched = {geom.get("mesh") for geom in root.iter("geom") if not only_seen <= geom.attrib.items()}
        for mesh in root.iter("mesh"):
            if mesh.get("name") not in touched and mesh.attrib.pop("file", None) is not None:
                mesh.set("vertex", _TETRAHEDRON)
        return self._compile(ET.tostring(root, encoding="unicode"))

    def outline_model(self) -> mujoco.MjModel:
        """Compile the scene with all its shapes and no texture: what hides what, quickly.

        Raises:
            MissingDataError, DataError: As `physics_model`.
        """
        return self._compile(ET.tostring(self._untextured(), encoding="unicode"))

    def picture_model(self) -> mujoco.MjModel:
        """Compile the scene as it looks, with spare textures that nothing wears.

        Raises:
            DataError: As `physics_model`; also for a broken texture.
        """
        root = ET.fromstring(self.xml)
        asset = _child(root, "asset")
        for name, kind in SPARE_TEXTURES.items():
            size = _SPARE_TEXTURE_PX[kind]
            ET.SubElement(asset, "texture", name=name, type=kind, builtin="flat", width=size, height=size)
            ET.SubElement(asset, "material", name=name, texture=name, texrepeat="1 1")
        return self._compile(ET.tostring(root, encoding="unicode"))

    def _untextured(self) -> ET.Element:
        root = ET.fromstring(self.xml)
        for texture in root.iter("texture"):
            if texture.attrib.pop("file", None) is not None:
                texture.attrib |= {"builtin": "flat", "width": "1", "height": "1"}
        return root

    def _compile(self, xml: str) -> mujoco.MjModel:
        # The compiler keeps what it decoded; robots and arenas come again, the rest would pile up.
        mujoco.mj_setCacheCapacity(mujoco.mj_getCache(), _COMPILER_CACHE_BYTES)
        try:
            return mujoco.MjModel.from_xml_string(xml)
        except ValueError as error:
            files = (element.get("file") for element in ET.fromstring(xml).iter())
            check_files(Path(file) for file in files if file)
            raise DataError(self.problem.source, f"MuJoCo cannot build the scene: {error}") from error
        finally:
            _return_freed_memory()


def read_task(path: Path) -> Problem:
    """Read a task file as `read_problem` does; where it is LIBERO's, an error says how to get it."""
    try:
        return read_problem(path)
    except VlaBenchError as error:
        error.args = (f"{error}{remedy(path)}",)
        raise


def build_scene(problem: Problem, changes: Sequence[tuple[str, Callable[[Part], None]]] = ()) -> Scene:
    """Compose the scene of a problem.

    Args:
        problem: What is there.
        changes: (instance, change): changes of single objects' model files, in order.

    Raises:
        UnknownNameError: Unknown problem type or object category; names file, line and the nearest.
        DataError: A region without a place, or a model file that is broken.
    """
    place = workspace(problem)
    if place.fixture not in problem.fixtures:
        raise DataError(
            problem.source,
            f"problem {problem.name!r} happens on {place.fixture!r}, which (:fixtures …) lacks; "
            f"it has {', '.join(problem.fixtures) or 'nothing'}",
            line=problem.line,
        )
    zones = [region for region in problem.regions.values() if region.target == place.fixture]
    for zone in zones:
        if not zone.ranges:
            raise DataError(
                problem.source,
                f"region {zone.name!r} lies on the workspace and needs (:ranges …)",
                line=zone.line,
            )
    movable = dict.fromkeys(problem.objects, True)
    fixed = dict.fromkeys((name for name in problem.fixtures if name != place.fixture), False)
    parts: dict[str, Part] = {}
    items: dict[str, Item] = {}
    for name, free in (movable | fixed).items():
        own = [change for target, change in changes if target == name]
        items[name], parts[name] = _load_item(problem, name, own, movable=free)

    robot = build_robot(robosuite_assets(), place)
    root = Part(robosuite_assets() / "base.xml").root
    option = root.find("option")
    assert option is not None
    option.set("timestep", "0.002")
    worldbody, asset = _child(root, "worldbody"), _child(root, "asset")
    arena = build_arena(place, zones)
    if place.builtin:
        append_sections(root, arena.root, ("visual",))
    for part in (arena, robot):
        worldbody.extend(list(part.worldbody))
        merge_assets(asset, part.asset)
        append_sections(root, part.root)
    bodies: dict[str, ET.Element] = {}
    for name, item in items.items():
        bodies[name] = object_body(parts[name], f"{name}_", movable=item.movable)
        parts[name].add_prefix(f"{name}_")
        merge_assets(asset, parts[name].asset)
        worldbody.append(bodies[name])
    # MuJoCo >= 3.3.3 reads the PNGs' sRGB flag and darkens floors and walls; LIBERO's datasets do not.
    for texture in asset.iter("texture"):
        texture.set("colorspace", "linear")
    return Scene(problem, place, items, _sites(problem, zones, bodies), ET.tostring(root, encoding="unicode"))


def _return_freed_memory() -> None:
    """Give the compiler's freed buffers, some 200 MB, back to the system where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _load_item(
    problem: Problem, name: str, changes: Sequence[Callable[[Part], None]], *, movable: bool
) -> tuple[Item, Part]:
    category = (problem.objects if movable else problem.fixtures)[name]
    found = categories.find(category, where=f"{problem.source}:{problem.lines[name]}: ")
    part = Part(found.path)
    for change in changes:
        change(part)
    item = Item(
        name, found, movable,
        radius=float(part.site_pos("horizontal_radius_site")[0]),
        bottom=float(part.site_pos("bottom_site")[2]),
        top=float(part.site_pos("top_site")[2]),
    )  # fmt: skip
    return item, part


def _sites(problem: Problem, zones: list, bodies: Mapping[str, ET.Element]) -> dict[str, Site]:
    """All regions that exist in the model, by name; regions of absent targets are left out."""
    sites = {}
    for zone in zones:
        x0, y0, x1, y1 = zone.ranges[0]
        sites[zone.name] = Site(zone.name, ((x1 - x0) / 2, (y1 - y0) / 2, 0.007), None, ())
    for region in problem.regions.values():
        if region.target in bodies:
            site = _item_site(region.name, region.target, bodies[region.target])
            if site is not None:
                sites[region.name] = site
    used = [arg for p in problem.init + problem.goal for arg in p.args]
    for region in problem.regions.values():
        if region.name in used and region.name not in sites:
            body = bodies.get(region.target)
            known = [] if body is None else [str(s.get("name")) for s in body.iter("site")]
            where = f"{problem.source}:{region.line}"
            raise UnknownNameError("region", region.name, known, where=where)
    return sites


def _item_site(name: str, parent: str, root: ET.Element) -> Site | None:
    """The site called `name` below an item's body, with the joints of the body that holds it.

    A region belongs to the innermost body above it whose own joints move it (a drawer, a door).
    """
    found = None
    for body in root.iter("body"):
        for site in body.iter("site"):
            if site.get("name") == name:
                size = [float(x) for x in site.get("size", "0 0 0").split()]
                half = [*size, 0.0, 0.0, 0.0][:3]
                joints = tuple(str(j.get("name")) for j in body.findall("./joint") if j.get("type") != "free")
                found = Site(name, (half[0], half[1], half[2]), parent, joints)
    return found


def _child(root: ET.Element, tag: str) -> ET.Element:
    found = root.find(tag)
    return ET.SubElement(root, tag) if found is None else found
