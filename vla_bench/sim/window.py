"""The look of a scene: a second model that has the textures, drawn only when a picture is asked for.

Physics never reads it, so nothing that is done to the look of a scene can change what happens in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mujoco

from vla_bench.sim.canvas import Canvas
from vla_bench.sim.graphics import SceneRenderer
from vla_bench.sim.scene import Scene
from vla_bench.types import Array, CameraView, Image


class Window:
    """Draws one scene; nothing is compiled or allocated before the first picture."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._drawn: tuple[Canvas, mujoco.MjData, SceneRenderer] | None = None
        self._dress: tuple[Callable[[Canvas], None], ...] = ()
        self._worn: tuple[Callable[[Canvas], None], ...] = ()

    def dress(self, changes: tuple[Callable[[Canvas], None], ...]) -> None:
        """Change the look from the next picture on, starting from how the scene was compiled."""
        self._dress = changes

    def pictures(self, views: Sequence[CameraView], qpos: Array, physics: mujoco.MjModel) -> dict[str, Image]:
        """Return (H, W, 3) uint8 pictures, top row first, by camera name.

        Args:
            views: What to draw.
            qpos: Configuration that is shown.
            physics: Model that is simulated: its fixtures' poses, sites' colours and cameras are used.
        """
        if self._drawn is None:
            model = self._scene.picture_model()
            self._drawn = Canvas(model, self._scene), mujoco.MjData(model), SceneRenderer(model)
        canvas, data, renderer = self._drawn
        model = canvas.model
        if self._dress is not self._worn:
            canvas.restore()
            for change in self._dress:
                change(canvas)
            renderer.upload(canvas.changed)
            canvas.changed.clear()
            self._worn = self._dress
        model.body_pos[:], model.body_quat[:] = physics.body_pos, physics.body_quat
        model.site_rgba[:] = physics.site_rgba
        model.cam_pos[:], model.cam_quat[:] = physics.cam_pos, physics.cam_quat
        model.cam_fovy[:] = physics.cam_fovy
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)  # lights and cameras may follow centres of mass
        mujoco.mj_camlight(model, data)
        return {v.name: renderer.render(data, v.name, v.height_px, v.width_px) for v in views}

    def close(self) -> None:
        """Release model and graphics memory."""
        if self._drawn is not None:
            self._drawn[2].close()
            self._drawn, self._worn = None, ()
