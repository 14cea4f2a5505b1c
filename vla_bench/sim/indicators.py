"""Sites that show something: a burner that glows while it is on, helpers that are switched off."""

from __future__ import annotations

import mujoco

from vla_bench.sim.predicates import joint_names
from vla_bench.sim.scene import Scene
from vla_bench.types import Array


class Indicators:
    """Colours of one model's sites, as LIBERO sets them."""

    def __init__(self, scene: Scene, model: mujoco.MjModel) -> None:
        self._model = model
        self._reset_rgba = _hidden(scene, model)
        self._lights = []
        for name, item in scene.items.items():
            articulation = item.category.articulation
            if articulation is not None and articulation.indicator is not None:
                address = model.joint(joint_names(model, name)[0]).qposadr[0]
                site = model.site(f"{name}_{articulation.indicator}").id
                self._lights.append((address, articulation.tests["turnon"], site))

    def reset(self) -> None:
        """Switch everything off."""
        self._model.site_rgba[:] = self._reset_rgba

    def show(self, qpos: Array) -> None:
        """Light what is on. LIBERO does it after a step, so the pictures of the next step show it first."""
        for address, is_on, site in self._lights:
            # LIBERO toggles alpha as 1 − alpha, which alternates between −1 and 2.
            self._model.site_rgba[site, 3] = 2.0 if is_on(qpos[address]) else -1.0


def _hidden(scene: Scene, model: mujoco.MjModel) -> Array:
    """Site colours after a reset: a negative alpha switches off the gripper's and the items' sites."""
    rgba = model.site_rgba.copy()
    prefixes = (*(f"{name}_" for name in scene.items), "gripper0_", "robot0_", "mount0_")
    zones = {name for name, site in scene.sites.items() if site.parent is None}
    for site in range(model.nsite):
        name = model.site(site).name
        if name not in zones and name.startswith(prefixes) and rgba[site, 3] > 0:
            rgba[site, 3] = -rgba[site, 3]
    return rgba
