"""Pictures: their orientation and content, one context for all models, and what happens without OpenGL."""

from __future__ import annotations

import gc
import gzip
import multiprocessing
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import mujoco
import numpy as np
import pytest
from support.goldens import goldens

from vla_bench import catalog
from vla_bench.errors import ConventionError, MissingCapabilityError, UnknownNameError
from vla_bench.sim import graphics, opengl
from vla_bench.sim.graphics import SceneRenderer, describe

SCENE = """
<mujoco>
  <statistic center="0 0 0" extent="2"/>
  <visual><global offwidth="64" offheight="64"/></visual>
  <worldbody>
    <light pos="0 -2 3" dir="0 .6 -1"/>
    <geom name="ball" type="sphere" size=".3" pos="0 0 .4" rgba="{ball}" group="1"/>
    <geom name="box" type="box" size=".4 .4 .1" pos="0 0 -.5" rgba="0 0 1 1" group="1"/>
    <geom name="hull" type="box" size=".9 .01 .9" pos="0 -.8 0" rgba="0 1 0 1" group="0"/>
    <camera name="front" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/>
    <camera name="above" pos="0 0 3" xyaxes="1 0 0 0 1 0"/>
  </worldbody>
</mujoco>
"""


class Scene:
    """A red (or other) ball above a blue box, behind a green collision geom."""

    def __init__(self, ball: str = "1 0 0 1") -> None:
        self.model = mujoco.MjModel.from_xml_string(SCENE.format(ball=ball))
        self.data = mujoco.MjData(self.model)
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        self.renderer = SceneRenderer(self.model)

    def picture(self, camera: str | int = "front", height_px: int = 48, width_px: int = 64) -> np.ndarray:
        return self.renderer.render(self.data, camera, height_px, width_px)


@pytest.fixture
def scene():
    scene = Scene()
    yield scene
    scene.renderer.close()


def shows(picture: np.ndarray, channel: int) -> np.ndarray:
    """Where one colour channel stands out."""
    others = np.delete(picture.astype(int), channel, axis=2).max(axis=2)
    return picture[..., channel] > others + 30


def python(code: str, **variables: str) -> str:
    """Standard output of a fresh interpreter in which no graphics variable is set but the given ones."""
    hidden = ("MUJOCO_GL", "MUJOCO_EGL_DEVICE_ID", "PYOPENGL_PLATFORM")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *(p for p in sys.path if p)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.stdout.strip()


# ── pictures ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_picture_is_as_a_person_would_see_it(scene):
    picture = scene.picture()
    assert picture.shape == (48, 64, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    red_rows, blue_rows = (np.flatnonzero(shows(picture, channel).any(axis=1)) for channel in (0, 2))
    assert red_rows.size
    assert red_rows.max() < blue_rows.min()


def test_collision_geoms_are_hidden(scene):
    assert not shows(scene.picture(), 1).any()


def test_segmentation_gives_the_geom_at_each_pixel(scene):
    seen = scene.renderer.segment(scene.data, "front", 48, 64)
    ball, box = (scene.model.geom(name).id for name in ("ball", "box"))
    assert seen.dtype == np.int32
    assert set(np.unique(seen)) == {-1, ball, box}
    picture = scene.picture()
    inside = seen == ball
    assert shows(picture, 0)[inside].mean() > 0.9
    assert not shows(picture, 0)[seen == box].any()


def test_a_picture_after_segmentation_equals_the_one_before(scene):
    before = scene.picture()
    scene.renderer.segment(scene.data, "front", 48, 64)
    assert np.array_equal(scene.picture(), before)


def test_a_picture_may_be_bigger_than_the_models_buffer(scene):
    small = scene.picture()
    large = scene.picture("front", 600, 800)
    assert large.shape == (600, 800, 3)
    assert shows(large, 0)[:300].any()
    assert abs(shows(large, 0).mean() - shows(small, 0).mean()) < 0.02
    assert np.array_equal(scene.picture(), small)


def test_a_camera_may_be_named_or_numbered(scene):
    assert np.array_equal(scene.picture("above"), scene.picture(1))
    assert not np.array_equal(scene.picture("above"), scene.picture("front"))


def test_an_unknown_camera_is_refused_with_the_ones_that_exist(scene):
    with pytest.raises(UnknownNameError, match="'frnt'; did you mean 'front'"):
        scene.picture("frnt")
    with pytest.raises(UnknownNameError, match=r"'2'; known: 0 .front., 1 .above."):
        scene.picture(2)


def test_an_empty_picture_is_refused(scene):
    with pytest.raises(ConventionError, match="0×64"):
        scene.picture("front", 0, 64)


# ── one context ────────────────────────────────────────────────────────────────────────────────────────


def test_closing_one_models_renderer_leaves_the_pictures_of_another():
    first, second = Scene("1 0 0 1"), Scene("0 1 0 1")
    before = first.picture(), second.picture()
    assert not np.array_equal(*before)
    second.renderer.close()
    assert np.array_equal(first.picture(), before[0])
    third = Scene("1 1 0 1")
    third.picture()
    del third
    gc.collect()
    assert np.array_equal(first.picture(), before[0])
    assert np.array_equal(second.picture(), before[1]), "a closed renderer allocates anew"
    first.renderer.close()
    second.renderer.close()


def test_closing_twice_or_before_the_first_picture_is_harmless():
    scene = Scene()
    scene.renderer.close()
    scene.picture()
    scene.renderer.close()
    scene.renderer.close()


def test_any_thread_may_draw(scene):
    expected = scene.picture()
    drawn: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: drawn.append(scene.picture())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 4
    assert all(np.array_equal(picture, expected) for picture in drawn)


MODULE = "from test_graphics import *\n"


@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_mujocos_own_renderer_does_not_spoil_ours(backend):
    """Under OSMesa, deleting a context while another is current spoils the other's pictures."""
    code = MODULE + (
        "scene = Scene(); before = scene.picture()\n"
        "theirs = mujoco.Renderer(Scene('0 1 0 1').model, 48, 64); scene.picture(); theirs.close()\n"
        "print(np.array_equal(scene.picture(), before), describe().backend)"
    )
    skip_without(backend)
    assert python(code, MUJOCO_GL=backend) == f"True {backend}"


# ── processes ──────────────────────────────────────────────────────────────────────────────────────────


def _draw_in_child(scene: Scene, pipe) -> None:
    try:
        pipe.send(scene.picture())
    except Exception as error:
        pipe.send(error)
    scene.renderer.close()
    pipe.send("closed")


def in_fork(scene: Scene) -> list:
    """What a forked child sends: a picture or an error, and that it could close the renderer."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_draw_in_child, args=(scene, theirs))
    child.start()
    sent = [ours.recv() if ours.poll(60) else None for _ in range(2)]
    child.join(60)
    return sent


def test_a_child_forked_after_the_first_picture_is_refused(scene):
    before = scene.picture()
    error, closed = in_fork(scene)
    assert isinstance(error, MissingCapabilityError)
    assert "'spawn'" in str(error)
    assert closed == "closed"
    assert np.array_equal(scene.picture(), before)


def test_a_child_forked_before_the_first_picture_draws():
    code = MODULE + "scene = Scene(); picture, _ = in_fork(scene); print((picture == scene.picture()).all())"
    assert python(code) == "True"


# ── which OpenGL ───────────────────────────────────────────────────────────────────────────────────────


def skip_without(backend: str) -> None:
    if backend == "egl" and not any(device.usable for device in opengl.egl_devices()):
        pytest.skip("no EGL device on this machine")
    if backend == "osmesa" and not opengl.ctypes.util.find_library("OSMesa"):
        pytest.skip("libOSMesa is not installed")


@pytest.mark.parametrize("backend", ["egl", "osmesa"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_variable_is_obeyed_whenever_mujoco_was_imported(backend, when):
    skip_without(backend)
    change = f"import os; os.environ['MUJOCO_GL'] = '{backend}'\n"
    code = change + MODULE if when == "after" else MODULE + change
    assert python(code + "Scene().picture(); print(describe().backend)") == backend


def test_drawing_leaves_the_environment_as_it_was():
    code = MODULE + "before = dict(os.environ); Scene().picture(); print(before == dict(os.environ))"
    assert python(code) == "True"


def test_the_description_names_the_renderer_and_the_reason():
    facts = describe()
    assert facts.backend in opengl.DEBIAN_PACKAGES
    assert facts.renderer
    assert facts.version[0].isdigit()
    assert facts.why in str(facts)


def test_an_unknown_backend_is_refused_with_the_ones_that_exist(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmes")
    with pytest.raises(UnknownNameError, match="'osmes'; did you mean 'osmesa'"):
        opengl.choose_backend()
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(UnknownNameError, match="known: egl, osmesa"):
        opengl.choose_backend()


def test_a_device_that_does_not_exist_is_refused(monkeypatch):
    skip_without("egl")
    monkeypatch.setattr(opengl, "_pyopengl_platform", lambda: "")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", "63")
    with pytest.raises(
        MissingCapabilityError, match="MUJOCO_EGL_DEVICE_ID=63 names no usable device; EGL has 0"
    ):
        opengl.choose_backend()
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", "0")
    assert opengl.choose_backend() == opengl.Backend("egl", "MUJOCO_EGL_DEVICE_ID=0")


GPU, LISTED_GPU = (
    opengl.EglDevice(software=False, usable=True),
    opengl.EglDevice(software=False, usable=False),
)
MESA = opengl.EglDevice(software=True, usable=True)


@pytest.mark.parametrize(
    ("devices", "libraries", "expected"),
    [
        ([GPU, MESA], {"EGL", "OSMesa"}, "egl"),
        ([MESA, GPU], {"EGL"}, "egl"),
        ([LISTED_GPU, MESA], {"EGL", "OSMesa"}, "osmesa"),
        ([], {"OSMesa"}, "osmesa"),
        ([MESA], {"EGL"}, "egl"),
        ([LISTED_GPU], {"EGL"}, None),
        ([], set(), None),
    ],
)
def test_a_gpu_comes_first_then_osmesa_then_egl_on_the_cpu(monkeypatch, devices, libraries, expected):
    """Machines other than this one are described by what they list."""
    for variable in ("MUJOCO_GL", "MUJOCO_EGL_DEVICE_ID", "PYOPENGL_PLATFORM"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(opengl, "_pyopengl_platform", lambda: "")
    monkeypatch.setattr(opengl, "egl_devices", lambda: devices)
    monkeypatch.setattr(opengl.ctypes.util, "find_library", lambda name: name if name in libraries else None)
    if expected:
        assert opengl.choose_backend().name == expected
        return
    with pytest.raises(MissingCapabilityError, match=r"libegl1.*libgl1-mesa-dri.*MUJOCO_GL=egl.*libosmesa6"):
        opengl.choose_backend()
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    if "OSMesa" not in libraries:
        with pytest.raises(MissingCapabilityError, match="MUJOCO_GL=osmesa: libOSMesa is not installed"):
            opengl.choose_backend()


def test_contradicting_variables_are_refused():
    code = (
        "from vla_bench.sim.opengl import choose_backend\n"
        "from vla_bench.errors import MissingCapabilityError\n"
        "import OpenGL.platform\n"
        "try: choose_backend()\n"
        "except MissingCapabilityError as error: print(error)"
    )
    skip_without("osmesa")
    message = python(code, MUJOCO_GL="egl", PYOPENGL_PLATFORM="osmesa")
    assert "PyOpenGL is bound to 'osmesa'" in message
    assert "MUJOCO_GL=egl" in message
    assert python(code, PYOPENGL_PLATFORM="osmesa") == ""


# ── the original's pictures ────────────────────────────────────────────────────────────────────────────


def test_the_recorded_picture_is_drawn_from_kinematics_alone():
    """Bit by bit with the recording's OpenGL, else within one grey level in the mean."""
    folder = goldens("libero")
    name = "libero_object_00"
    if folder is None or not (folder / f"images/{name}.npz").is_file():
        pytest.skip("no recordings of LIBERO's pictures")
    root = catalog.libero_root()
    if not (root / "STANDINS.md").is_file() or not (root / "robosuite_models").is_dir():
        pytest.skip("the recordings show the stand-in assets")
    recorded = np.load(folder / f"images/{name}.npz")
    xml = (
        gzip.decompress((folder / f"models/{name}.xml.gz").read_bytes()).decode().replace("@DATA@", str(root))
    )
    model = mujoco.MjModel.from_xml_string(re.sub("<texture ", '<texture colorspace="linear" ', xml))
    model.body_pos[:], model.body_quat[:] = recorded["body_pos"], recorded["body_quat"]
    model.site_rgba[:] = recorded["site_rgba"]
    data = mujoco.MjData(model)
    data.qpos[:] = recorded["qpos_rendered"]
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    renderer = SceneRenderer(model)
    import imageio.v3 as iio

    for camera in ("agentview", "robot0_eye_in_hand"):
        picture = renderer.render(data, camera, 256, 256)
        original = iio.imread(folder / f"images/{name}_settled_{camera}.png")[::-1]
        same_gl = describe().version in str(recorded["gl"]) and describe().renderer in str(recorded["gl"])
        difference = np.abs(picture.astype(int) - original)
        assert difference.max() == 0 if same_gl else difference.mean() <= 1.0, (camera, describe())
    renderer.close()
    assert graphics._context().discarded == []
