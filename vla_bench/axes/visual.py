"""What is seen: lights, colours, textures, distractors, cameras, and what sensors make of a picture.

All but the distractors leave the physics alone: they change the canvas, the cameras or finished pictures.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from vla_bench.axes import scenery
from vla_bench.axes.cell import Cell
from vla_bench.axes.patterns import draw_colour, draw_pattern, plain
from vla_bench.axes.placing import put_down, scatter
from vla_bench.sim.canvas import Canvas
from vla_bench.sim.edits import Blueprint, Edits, add_object
from vla_bench.sim.robot import HAND_CAMERA
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Array, Image

_REFERENCE_PX = 256  # lengths in pixels are meant at this height


def lighting(cell: Cell) -> Edits:
    """Brighter or darker, from another side, of another colour; the tint takes light away, it adds none."""
    generator, values = cell.generator(), cell.values
    factor = values["brighter" if generator.random() < 0.5 else "darker"]
    azimuth = generator.uniform(0, 2 * np.pi)
    tint = draw_colour(generator)
    colour = (1 - values["tint"]) + values["tint"] * tint / tint.max()
    axis = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    turn = Rotation.from_rotvec(axis * values["direction"], degrees=True).as_matrix()
    cell.drawn.update(
        intensity=factor, direction_deg=values["direction"], about_deg=float(np.degrees(azimuth))
    )
    cell.drawn.update(colour=[float(c) for c in colour])
    centre = np.array(cell.place.offset)
    return Edits(canvas=(lambda canvas: canvas.light(factor * colour, turn, centre),))


def table(cell: Cell) -> Edits:
    """Another colour and pattern over the surface that the task stands on."""
    paint = draw_pattern(cell.generator(), cell.drawn)
    return Edits(canvas=(lambda canvas: canvas.cover(canvas.surface(), cell.values["share"], paint),))


def background(cell: Cell) -> Edits:
    """Another colour and pattern over floor, walls and what stands at them, and another sky."""
    paint = draw_pattern(cell.generator(), cell.drawn)

    def change(canvas: Canvas) -> None:
        canvas.cover(canvas.background(), cell.values["share"], paint)
        for texture in canvas.sky():
            canvas.cover_texture(int(texture), cell.values["share"], plain(paint.mean(axis=(0, 1)) / 255))

    return Edits(canvas=(change,))


def object_color(cell: Cell) -> Edits:
    """Another colour over each movable object that the goal names."""
    return _repaint(cell, lambda generator, drawn: plain(draw_colour(generator, drawn)))


def object_texture(cell: Cell) -> Edits:
    """A pattern over each movable object that the goal names."""
    return _repaint(cell, draw_pattern)


def _repaint(cell: Cell, draw: Callable[[np.random.Generator, dict], Image]) -> Edits:
    paints = {}
    for name in scenery.relevant(cell.problem):
        cell.drawn[name] = {}
        paints[name] = draw(cell.generator(name), cell.drawn[name])

    def change(canvas: Canvas) -> None:
        for name, paint in paints.items():
            geoms = canvas.geoms_below(canvas.scene.items[name].body)
            canvas.cover(geoms, cell.values["share"], paint)

    return Edits(canvas=(change,))


# ── distractors ────────────────────────────────────────────────────────────────────────────────────────────


def distractors(cell: Cell) -> Edits:
    """Further objects of kinds that the task does not have, standing where nothing is."""
    present = {*cell.problem.objects.values(), *cell.problem.fixtures.values()}
    pool = [category for category in cell.option("categories") if category not in present]
    # few sets, so that few scenes have to be compiled
    sets = int(cell.option("sets"))
    first = int(cell.generator().integers(sets)) * len(pool) // sets
    chosen = (pool[first:] + pool[:first])[: int(cell.values["count"])]
    names = [f"distractor{number}" for number in range(1, len(chosen) + 1)]
    cell.drawn["categories"] = chosen

    def place(simulation: MujocoSimulation) -> None:
        poses = scatter(simulation, names, cell.retry(), cell.factor.options)
        cell.drawn["positions_m"] = [[float(x), float(y)] for x, y, _ in poses]
        for name, (x, y, yaw) in zip(names, poses, strict=True):
            put_down(simulation, name, x, y, yaw)

    added = tuple(
        functools.partial(add_object, name=name, category=category)
        for name, category in zip(names, chosen, strict=True)
    )
    return Edits(Blueprint(f"distractors:{','.join(chosen)}", added), start=(place,))


# ── cameras ────────────────────────────────────────────────────────────────────────────────────────────────


def camera(cell: Cell) -> Edits:
    """The cameras that stand in the room go around the point they look at, and nearer or farther.

    The wrist camera keeps its place: it is part of the robot.
    """
    generator, values = cell.retry(), cell.values
    around = generator.uniform(0, 2 * np.pi)
    nearer = generator.random() < 0.5
    reach = 1 - values["distance"] / 100 if nearer else 1 + values["distance"] / 100
    cell.drawn.update(angle_deg=values["angle"], towards_deg=float(np.degrees(around)), distance=reach)

    def change(simulation: MujocoSimulation) -> None:
        model = simulation.model
        for name in simulation.task.cameras:
            if name == HAND_CAMERA:
                continue
            bound = model.camera(name)
            turn = Rotation.from_quat(bound.quat, scalar_first=True)
            target = _looked_at(bound.pos, turn.as_matrix(), cell.place.offset[2])
            axis = turn.apply([np.cos(around), np.sin(around), 0.0])
            step = Rotation.from_rotvec(axis * values["angle"], degrees=True)
            bound.pos[:] = target + reach * step.apply(bound.pos - target)
            bound.quat[:] = (step * turn).as_quat(scalar_first=True)

    return Edits(model=(change,))


def _looked_at(pos: Array, mat: Array, height: float) -> Array:
    """Where a camera's axis meets the workspace, or a point 1 m ahead if it looks up."""
    ahead = -mat[:, 2]
    length = (height - pos[2]) / ahead[2] if ahead[2] < -0.1 else 1.0
    return pos + ahead * length


def field_of_view(cell: Cell) -> Edits:
    """Wider or narrower lenses on all cameras."""
    wider = cell.retry().random() < 0.5
    factor = 1 + (1 if wider else -1) * cell.values["change"] / 100
    cell.drawn["factor"] = factor

    def change(simulation: MujocoSimulation) -> None:
        for name in simulation.task.cameras:
            simulation.model.camera(name).fovy[:] *= factor

    return Edits(model=(change,))


# ── sensors: every camera, the wrist's too ─────────────────────────────────────────────────────────────────


def blur(cell: Cell) -> Edits:
    """Out of focus."""
    sigma = cell.values["sigma"]
    cell.drawn["sigma_px"] = sigma

    def effect(image: Image, camera: str, time_ns: int) -> Image:
        scale = sigma * image.shape[0] / _REFERENCE_PX
        return np.asarray(ndimage.gaussian_filter(image, (scale, scale, 0), mode="nearest"), dtype=np.uint8)

    return Edits(lens=(effect,))


def noise(cell: Cell) -> Edits:
    """Independent normal noise on every pixel and channel, new in every picture."""
    sigma = cell.values["sigma"]
    cell.drawn["sigma_levels"] = sigma

    def effect(image: Image, camera: str, time_ns: int) -> Image:
        grain = cell.generator(camera, time_ns).standard_normal(image.shape, dtype=np.float32)
        return _to_image(image + sigma * grain)

    return Edits(lens=(effect,))


def fog(cell: Cell) -> Edits:
    """A bright veil of uneven density, drifting slowly."""
    density = cell.values["density"]
    tone = float(cell.generator().uniform(185, 225))
    cell.drawn.update(density=density, tone=tone)

    @functools.lru_cache(maxsize=8)
    def cloud(camera: str, height: int, width: int) -> Array:
        coarse = cell.generator(camera).standard_normal((height, 2 * width))
        smooth = ndimage.gaussian_filter(coarse, height / 8, mode="wrap")
        return np.clip(1 + 0.2 * smooth / smooth.std(), 0.3, 1.7)

    def effect(image: Image, camera: str, time_ns: int) -> Image:
        height, width = image.shape[:2]
        shift = int(time_ns / 1e9 * width / 20) % (2 * width)
        veil = np.roll(cloud(camera, height, width), -shift, axis=1)[:, :width, None]
        share = np.clip(density * veil, 0, 0.9)
        return _to_image((1 - share) * image + share * tone)

    return Edits(lens=(effect,))


def exposure(cell: Cell) -> Edits:
    """Too long or too short an exposure, in stops, clipped at white."""
    sign = 1 if cell.generator().random() < 0.5 else -1
    stops = sign * cell.values["stops"]
    cell.drawn["stops"] = stops
    # light adds up in linear intensities; the pictures are gamma-encoded
    table = 255 * np.clip((np.arange(256) / 255) ** 2.2 * 2.0**stops, 0, 1) ** (1 / 2.2)
    lookup = np.round(table).astype(np.uint8)
    return Edits(lens=(lambda image, camera, time_ns: lookup[image],))


def jpeg(cell: Cell) -> Edits:
    """JPEG compression and back, with half the resolution in colour."""
    quality = round(cell.values["quality"])
    cell.drawn["quality"] = quality

    def effect(image: Image, camera: str, time_ns: int) -> Image:
        from PIL import Image as Pictures

        buffer = io.BytesIO()
        Pictures.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=2)
        return np.asarray(Pictures.open(buffer)).copy()

    return Edits(lens=(effect,))


def _to_image(values: Array) -> Image:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
