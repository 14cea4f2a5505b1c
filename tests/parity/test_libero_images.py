"""Pictures against the original's, pixel by pixel."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest
from support.goldens import recordings
from support.libero import simulation, task_of

from vla_bench import catalog
from vla_bench.sim import graphics
from vla_bench.sim.assets import libero_status
from vla_bench.types import CameraView, Episode

# the renderer of the recordings; on others the rasterisation differs by fractions of a level
RECORDED_WITH = "llvmpipe"
MEAN_TOLERANCE_ELSEWHERE = 2.0
RECORDED_STANDINS = 17
CAMERAS = ("agentview", "robot0_eye_in_hand")


def show_the_recorded_assets() -> bool:
    """The recordings show stand-ins for some textures and meshes; LIBERO's own look different."""
    return len(libero_status(catalog.libero_root()).standins) == RECORDED_STANDINS


@pytest.mark.parametrize("path", recordings("libero", "images"))
def test_libero_pictures_are_the_recorded_ones(path):
    assert path is not None, "CI must have the recordings"
    if not show_the_recorded_assets():
        pytest.skip("the pictures were recorded with stand-in assets, this data folder has others")
    sim = simulation(task_of(path))
    views = [CameraView(name, 256, 256) for name in CAMERAS]
    with np.load(path) as data:
        sim.reset(Episode(sim.task.id, seed=0))
        np.testing.assert_allclose(sim.model.body_pos, data["body_pos"], atol=1e-12)
        sim.set_state(data["init_state"])
        _compare(sim.observe(views).images, path, "init")
        for _ in range(len(data["qpos_settled"])):
            sim.tick(np.array(sim.task.settle_action))
        # recorded with MuJoCo 3.3.2, whose contacts differ in the seventh digit while things settle
        np.testing.assert_allclose(sim._seen.qpos, data["qpos_rendered"], atol=1e-4)
        np.testing.assert_array_equal(sim.model.site_rgba, data["site_rgba"])
        sim._seen.qpos = data["qpos_rendered"]
        _compare(sim.observe(views).images, path, "settled")


def _compare(images, path, moment: str) -> None:
    exact = RECORDED_WITH in graphics.describe().renderer
    for name in CAMERAS:
        # the original's first row is the bottom of the picture
        recorded = iio.imread(path.with_name(f"{path.stem}_{moment}_{name}.png"))[::-1].astype(int)
        difference = np.abs(images[name].astype(int) - recorded)
        if exact:
            assert difference.max() == 0, f"{moment} {name}: {np.count_nonzero(difference)} values differ"
        else:
            assert difference.mean() <= MEAN_TOLERANCE_ELSEWHERE, f"{moment} {name}"
