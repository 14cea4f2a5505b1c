"""What a camera sees of each thing: pixels counted by segmentation, without textures or lights."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np

from vla_bench.sim.graphics import SceneRenderer
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import CameraView


class Outline:
    """Counts the visible pixels of the things in one simulation's scene.

    Raises:
        MissingDataError, DataError: The scene's meshes cannot be used.
    """

    def __init__(self, simulation: MujocoSimulation) -> None:
        self._simulation = simulation
        self._model = simulation.scene.outline_model()
        self._data = mujoco.MjData(self._model)
        self._renderer = SceneRenderer(self._model)
        self._roots = self._model.body_rootid[self._model.geom_bodyid]

    def visible_px(self, view: CameraView) -> Mapping[str, int]:
        """Return the number of pixels that show each object and fixture, in the simulation's present state.

        Raises:
            MissingCapabilityError: This machine cannot draw.
        """
        model, data, physics = self._model, self._data, self._simulation.model
        model.body_pos[:], model.body_quat[:] = physics.body_pos, physics.body_quat
        model.cam_pos[:], model.cam_quat[:] = physics.cam_pos, physics.cam_quat
        model.cam_fovy[:] = physics.cam_fovy
        data.qpos[:] = self._simulation.data.qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)  # cameras may follow centres of mass
        mujoco.mj_camlight(model, data)
        seen = self._renderer.segment(data, view.name, view.height_px, view.width_px)
        shown = np.bincount(self._roots[seen[seen >= 0]], minlength=model.nbody)
        items = self._simulation.scene.items.values()
        return {item.name: int(shown[model.body(item.body).id]) for item in items}

    def close(self) -> None:
        """Release graphics."""
        self._renderer.close()
