"""The places where tasks happen: arena file, table, robot mounting, cameras, and rules of placement.

The numbers are LIBERO's (`envs/problems/*.py`, `envs/arenas/*.py` of commit 8f1084e). A BDDL file names its
workspace as the problem.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vla_bench import catalog
from vla_bench.bddl import Problem, Region
from vla_bench.errors import UnknownNameError
from vla_bench.sim.mjcf import Part, text, vector

Vector3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]

_ABOVE: Quaternion = (0.6380177736282349, 0.3048497438430786, 0.30484986305236816, 0.6380177736282349)
_LOW: Quaternion = (0.6182166934013367, 0.3432307541370392, 0.3432314395904541, 0.6182177066802979)
_FRONT: Quaternion = (0.56, 0.43, 0.43, 0.56)
_GALLERY = (
    (2.844547668904445, 2.1279684793440667, 3.128616846013882),
    (0.42261379957199097, 0.23374411463737488, 0.41646939516067505, 0.7702690958976746),
)
_PAPER: Quaternion = (0.513, 0.353, 0.443, 0.645)


@dataclass(frozen=True)
class Workspace:
    """One kind of place.

    Attributes:
        problem: Name in the BDDL file.
        fixture: Instance name of the surface in BDDL files.
        arena: File below LIBERO's `assets/scenes`, or a built-in file.
        offset: Origin of the placement ranges in the world; z is the height of the surface.
        robot_pos: Base of the robot.
        pedestal: Whether the robot stands on robosuite's pedestal.
        surface_body: Body that carries the sites of the regions.
        zone_height: z of the regions' sites in that body's frame; they are offset by `zone_xy`.
        fixture_z_offset: Added to the height of fixtures.
        shrink_ranges: Whether ranges are shrunk by an object's radius when it is placed.
        table: (full size, friction) for arenas whose table is set in code, else None.
        floor_texture, wall_texture: Files below LIBERO's `assets/textures`.
        cameras: Name → (position, quaternion wxyz), set or replaced in the arena.
        look: Material of a built-in arena → colour (rgba).
    """

    problem: str
    fixture: str
    arena: str
    offset: Vector3
    robot_pos: Vector3
    pedestal: bool
    surface_body: str
    zone_height: float
    fixture_z_offset: float
    shrink_ranges: bool
    cameras: dict[str, tuple[Vector3, Quaternion]]
    zone_xy: tuple[float, float] = (0.0, 0.0)
    table: tuple[Vector3, Vector3] | None = None
    floor_texture: str = "light-gray-floor-tile.png"
    wall_texture: str = "light-gray-plaster.png"
    builtin: bool = field(default=False)
    look: Mapping[str, str] = field(default_factory=dict)

    @property
    def arena_path(self) -> Path:
        """The arena's file."""
        if self.builtin:
            return Path(__file__).parent / "data" / "arenas" / self.arena
        return catalog.libero_root() / "assets" / "scenes" / self.arena


def _views(agent: Vector3, quat: Quaternion, front: Vector3, paper: Vector3 | None) -> dict:
    views = {"agentview": (agent, quat), "frontview": (front, _FRONT), "galleryview": _GALLERY}
    return views | ({"paperview": (paper, _PAPER)} if paper else {})


_AGENT_A: Vector3 = (0.6586131746834771, 0.0, 1.6103500240372423)
_TABLE = ((1.0, 1.2, 0.05), (0.6, 0.005, 0.0001))

# ours: a table, and the same table as a counter with a sink let in
_TABLETOP = Workspace(
    problem="tabletop", fixture="main_table", arena="tabletop.xml", offset=(0.0, 0.0, 0.90),
    robot_pos=(-0.66, 0.0, 0.912), pedestal=True, surface_body="table", zone_height=0.02,
    fixture_z_offset=0.0, shrink_ranges=False, cameras={}, builtin=True,
)  # fmt: skip
_COUNTER = replace(_TABLETOP, problem="counter", arena="counter.xml")

_ALL = (
    Workspace(
        problem="libero_tabletop_manipulation", fixture="main_table",
        arena="libero_tabletop_base_style.xml", offset=(0.0, 0.0, 0.90), robot_pos=(-0.66, 0.0, 0.912),
        pedestal=True, surface_body="table", zone_height=0.02, fixture_z_offset=0.01 - 0.05,
        shrink_ranges=True, table=_TABLE, cameras=_views(_AGENT_A, _ABOVE, (1.0, 0.0, 1.48), None),
    ),
    Workspace(
        problem="libero_kitchen_tabletop_manipulation", fixture="kitchen_table",
        arena="libero_kitchen_tabletop_base_style.xml", offset=(0.0, 0.0, 0.90),
        robot_pos=(-0.66, 0.0, 0.912), pedestal=True, surface_body="table", zone_height=0.0,
        fixture_z_offset=0.01 - 0.05, shrink_ranges=False, table=(_TABLE[0], (1.0, 0.005, 0.0001)),
        cameras=_views(_AGENT_A, _ABOVE, (1.0, 0.0, 1.48), (2.1, 0.535, 2.075)),
        floor_texture="gray_ceramic_tile.png", wall_texture="yellow_linen_wall_texture.png",
    ),
    Workspace(
        problem="libero_living_room_tabletop_manipulation", fixture="living_room_table",
        arena="libero_living_room_tabletop_base_style.xml", offset=(0.0, 0.0, 0.41),
        robot_pos=(-0.51, 0.0, 0.42), pedestal=False, surface_body="living_room_table", zone_height=0.41,
        fixture_z_offset=0.01 - 0.024, shrink_ranges=False,
        cameras=_views((0.6065773716836134, 0.0, 0.96), _LOW, (1.5, 0.0, 0.9), (2.1, 0.735, 1.875)),
        floor_texture="seamless_wood_planks_floor.png",
    ),
    Workspace(
        problem="libero_study_tabletop_manipulation", fixture="study_table",
        arena="libero_study_base_style.xml", offset=(-0.2, 0.0, 0.867), robot_pos=(-0.75, 0.0, 0.912),
        pedestal=True, surface_body="study_table", zone_height=0.867, zone_xy=(-0.2, 0.0),
        fixture_z_offset=0.01 - 0.05, shrink_ranges=False,
        cameras=_views((0.4586131746834771, 0.0, 1.6103500240372423), _ABOVE, (1.0, 0.0, 1.48),
                       (2.1, 0.535, 2.075)),
    ),
    Workspace(
        problem="libero_floor_manipulation", fixture="floor", arena="libero_floor_base_style.xml",
        offset=(0.0, 0.0, -0.035), robot_pos=(-0.6, 0.0, 0.0), pedestal=False, surface_body="floor",
        zone_height=0.02, fixture_z_offset=-0.025, shrink_ranges=True,
        cameras=_views((0.8965773716836134, 5.216182733499864e-07, 0.65), _LOW, (1.0, 0.0, 0.65), None),
    ),
    Workspace(
        problem="libero_coffee_table_manipulation", fixture="coffee_table",
        arena="libero_coffee_table_base_style.xml", offset=(0.0, 0.0, 0.41), robot_pos=(-0.51, 0.0, 0.41),
        pedestal=False, surface_body="coffee_table", zone_height=0.41, fixture_z_offset=0.01 - 0.024,
        shrink_ranges=True, cameras=_views((1.5, 0.0, 0.9), _FRONT, (1.5, 0.0, 0.9), (2.1, 0.735, 1.875)),
        floor_texture="seamless_wood_planks_floor.png",
    ),
    _TABLETOP, _COUNTER,
    replace(_TABLETOP, problem="tabletop_blue_wall",
            look={"wall": ".36 .50 .66 1", "ground": ".42 .33 .27 1"}),
    replace(_TABLETOP, problem="tabletop_dark",
            look={"wood": ".25 .29 .33 1", "wall": ".60 .30 .24 1", "ground": ".30 .29 .28 1"}),
    replace(_TABLETOP, problem="tabletop_green", look={"wood": ".50 .62 .50 1", "wall": ".76 .72 .58 1"}),
    replace(_COUNTER, problem="counter_marble", look={"wood": ".70 .69 .66 1", "wall": ".45 .58 .52 1"}),
)  # fmt: skip

WORKSPACES = {workspace.problem: workspace for workspace in _ALL}


def workspace(problem: Problem) -> Workspace:
    """The workspace that a problem names."""
    if problem.name not in WORKSPACES:
        where = f"{problem.source}:{problem.line}"
        raise UnknownNameError("problem", problem.name, WORKSPACES, where=where)
    return WORKSPACES[problem.name]


def build_arena(place: Workspace, regions: list[Region]) -> Part:
    """Return the arena with its table, textures, cameras and the sites of its regions set."""
    arena = Part(place.arena_path)
    arena.recolor_collision_geoms("0.5 0.5 0 1", exclude="floor")
    if not place.builtin:
        for name, file in (("texplane", place.floor_texture), ("tex-wall", place.wall_texture)):
            texture = arena.asset.find(f"./texture[@name='{name}']")
            if texture is not None:
                texture.set("file", str(Path(texture.get("file", "")).parent / file))
    for material in arena.asset.iter("material"):
        if material.get("name") in place.look:
            material.set("rgba", place.look[material.get("name", "")])
    if place.table is not None:
        _size_table(arena.worldbody, place)
    surface = arena.worldbody.find(f"./body[@name='{place.surface_body}']")
    assert surface is not None, (place.arena_path, place.surface_body)
    for region in regions:
        surface.append(zone_site(place, region))
    for element in arena.worldbody.findall("./*[@pos]"):
        element.set("pos", text(vector(element.get("pos", ""))))
    for name, (pos, quat) in place.cameras.items():
        camera = arena.worldbody.find(f".//camera[@name='{name}']")
        if camera is None:
            camera = ET.SubElement(arena.worldbody, "camera", name=name)
        camera.set("pos", text(pos))
        camera.set("quat", text(quat))
    return arena


def zone_site(place: Workspace, region: Region) -> ET.Element:
    """The box site of a region of the workspace: its first range, 14 mm high."""
    x0, y0, x1, y1 = region.ranges[0]
    pos = ((x1 + x0) / 2 + place.zone_xy[0], (y1 + y0) / 2 + place.zone_xy[1], place.zone_height)
    size = ((x1 - x0) / 2, (y1 - y0) / 2, 0.007)
    return ET.Element(
        "site", name=region.name, type="box", quat="1 0 0 0", pos=text(pos), size=text(size),
        rgba=text(region.rgba),
    )  # fmt: skip


def _size_table(worldbody: ET.Element, place: Workspace) -> None:
    """Set size, height and legs of a table whose file leaves them open."""
    assert place.table is not None
    size, friction = place.table
    half = np.array(size) / 2
    table = worldbody.find("./body[@name='table']")
    assert table is not None, place.arena_path
    table.set("pos", text(np.array([0, 0, -half[2]]) + place.offset))
    parts = {element.get("name"): element for element in table}
    parts["table_collision"].set("size", text(half))
    parts["table_collision"].set("friction", text(friction))
    parts["table_visual"].set("size", text(half))
    parts["table_top"].set("pos", text([0, 0, half[2]]))
    z = (place.offset[2] - half[2]) / 2.0
    for number, (dx, dy) in enumerate([(0.1, 0.1), (-0.1, 0.1), (-0.1, -0.1), (0.1, -0.1)], start=1):
        x = np.sign(dx) * half[0] - dx if half[0] > abs(dx * 2) else 0.0
        y = np.sign(dy) * half[1] - dy if half[1] > abs(dy * 2) else 0.0
        parts[f"table_leg{number}_visual"].set("pos", text([x, y, -z]))
        parts[f"table_leg{number}_visual"].set("size", text([0.025, z]))
