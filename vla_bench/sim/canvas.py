"""The look of a compiled scene, to be changed and restored: lights, materials, textures."""

from __future__ import annotations

from collections.abc import Iterable

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_bench.sim.scene import SPARE_TEXTURES, Scene
from vla_bench.types import Array, Image

_ARRAYS = (
    *("light_pos", "light_dir", "light_diffuse", "light_ambient", "light_specular"),
    *("mat_rgba", "mat_specular", "mat_shininess", "mat_reflectance", "geom_rgba", "geom_matid"),
)
_HEADLIGHT = ("ambient", "diffuse", "specular")
_RGB = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)
_VISUAL_GROUP = 1

Indices = NDArray[np.intp]


class Canvas:
    """What a scene is drawn with. Geoms are given by index; colours are RGB in [0, 1]."""

    def __init__(self, model: mujoco.MjModel, scene: Scene) -> None:
        self.model, self.scene = model, scene
        self._arrays = {name: getattr(model, name).copy() for name in _ARRAYS}
        self._headlight = {name: getattr(model.vis.headlight, name).copy() for name in _HEADLIGHT}
        self._textures: dict[int, Image] = {}
        self._spare = self._all_spare()
        self.changed: set[int] = set()

    def restore(self) -> None:
        """Make everything look as compiled."""
        for name, value in self._arrays.items():
            getattr(self.model, name)[...] = value
        for name, value in self._headlight.items():
            getattr(self.model.vis.headlight, name)[:] = value
        for texture, pixels in self._textures.items():
            self.texture(texture)[...] = pixels
        self.changed |= set(self._textures)
        self._textures.clear()
        self._spare = self._all_spare()

    def _all_spare(self) -> dict[str, list[int]]:
        """Unused materials by the type of their texture."""
        spare: dict[str, list[int]] = {"2d": [], "cube": []}
        for name, kind in SPARE_TEXTURES.items():
            spare[kind].append(self.model.material(name).id)
        return spare

    # ── finding ────────────────────────────────────────────────────────────────────────────────────────

    def geoms_below(self, body: str) -> Indices:
        """Visual geoms of a body and of all bodies below it."""
        model = self.model
        inside = np.zeros(model.nbody, dtype=bool)
        inside[model.body(body).id] = True
        for child in range(1, model.nbody):  # parents come first
            inside[child] |= inside[model.body_parentid[child]]
        return np.flatnonzero(inside[model.geom_bodyid] & (model.geom_group == _VISUAL_GROUP))

    def surface(self) -> Indices:
        """Visual geoms of what the task stands on."""
        return self.geoms_below(self.scene.place.surface_body)

    def background(self) -> Indices:
        """Visual geoms that are neither surface nor item nor robot."""
        roots = [item.body for item in self.scene.items.values()]
        owned = {*self.surface(), *(g for root in roots for g in self.geoms_below(root))}
        owned |= set(self.geoms_below("robot0_base"))
        return np.array([g for g in self.geoms_below("world") if g not in owned], dtype=int)

    def sky(self) -> Indices:
        """Textures of the sky."""
        return np.flatnonzero(self.model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX)

    def texture(self, texture: int) -> Image:
        """The pixels of a texture as a (H, W, channels) view."""
        model = self.model
        height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
        channels, start = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
        flat = model.tex_data[start : start + height * width * channels]
        return flat.reshape(height, width, channels)

    # ── painting ───────────────────────────────────────────────────────────────────────────────────────

    def cover(self, geoms: Iterable[int], share: float, paint: Image) -> None:
        """Blend `paint`, (h, w, 3) uint8 and repeated as needed, over geoms; share 1 hides what was there.

        A geom without a texture takes a spare one while there are any, then the mean colour.
        """
        materials: dict[int, list[int]] = {}
        for geom in geoms:
            materials.setdefault(int(self.model.geom_matid[geom]), []).append(int(geom))
        for material, members in materials.items():
            texture = -1 if material < 0 else int(self.model.mat_texid[material, _RGB])
            if texture >= 0:
                self.cover_texture(texture, share, paint)
            else:
                self._cover_plain(material, members, share, paint)

    def cover_texture(self, texture: int, share: float, paint: Image) -> None:
        """Blend `paint` over a texture."""
        pixels = self.texture(texture)
        self._textures.setdefault(texture, pixels.copy())
        self.changed.add(texture)
        height, width = pixels.shape[:2]
        rows, columns = np.arange(height) % paint.shape[0], np.arange(width) % paint.shape[1]
        mixed = (1 - share) * pixels[..., :3] + share * paint[rows][:, columns]
        pixels[..., :3] = np.round(mixed).astype(np.uint8)

    def _cover_plain(self, material: int, geoms: list[int], share: float, paint: Image) -> None:
        colours = self.model.geom_rgba[geoms] if material < 0 else self.model.mat_rgba[[material]]
        plain = np.ptp(paint.reshape(-1, 3).astype(int), axis=0).max() == 0
        planes = self.model.geom_type[geoms] == mujoco.mjtGeom.mjGEOM_PLANE
        spares = self._spare["2d" if planes.all() else "cube"]
        if plain or not spares:
            mixed = (1 - share) * colours[:, :3] + share * paint.reshape(-1, 3).mean(axis=0) / 255
            target = self.model.geom_rgba if material < 0 else self.model.mat_rgba
            target[geoms if material < 0 else [material], :3] = mixed
            return
        spare = spares.pop(0)
        texture = int(self.model.mat_texid[spare, _RGB])
        self._textures.setdefault(texture, self.texture(texture).copy())
        self.texture(texture)[...] = np.round(colours[0, :3] * 255).astype(np.uint8)
        self.cover_texture(texture, share, paint)
        if material >= 0:
            for name in ("mat_specular", "mat_shininess", "mat_reflectance"):
                getattr(self.model, name)[spare] = getattr(self.model, name)[material]
        self.model.geom_matid[geoms] = spare

    def light(self, factor: Array, turn: Array, centre: Array) -> None:
        """Multiply all lights by the colour `factor` (3,); turn the lamps about `centre` by `turn` (3, 3)."""
        model = self.model
        for name in ("light_diffuse", "light_ambient", "light_specular"):
            getattr(model, name)[...] *= factor
        for name in _HEADLIGHT:
            getattr(model.vis.headlight, name)[:] *= factor
        model.light_dir[...] = model.light_dir @ turn.T
        model.light_pos[...] = centre + (model.light_pos - centre) @ turn.T
