import numpy as np
import pytest
from support.worlds import APART, BRIDGE, STACKED, TABLETOP, needs_libero, simulation, tabletop

from vla_bench import catalog, seeding
from vla_bench.errors import DataError, PlacementError
from vla_bench.sim import placement
from vla_bench.sim.placement import Placer
from vla_bench.sim.rotations import ModernStream, float32_rotation
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode

LEFT, RIGHT = (-0.16, 0.06, 0.02, 0.24), (-0.14, -0.24, 0.04, -0.08)
TABLE_TOP_M = 0.90


def placer_of(sim):
    return Placer(sim.scene, sim.model)


def draws(placer, n, seed=0):
    stream = ModernStream(seeding.generator("eval", "placement", seed))
    return [placer.sample(stream, 1) for _ in range(n)]


def inside(pos, rectangle):
    x0, y0, x1, y1 = rectangle
    return x0 <= pos[0] <= x1 and y0 <= pos[1] <= y1


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return MujocoSimulation(tabletop(tmp_path_factory.mktemp("own")))


def test_things_lie_in_their_regions_on_the_surface_and_fill_them(own):
    made = draws(placer_of(own), 300)
    for draw in made:
        carrot, plate = draw.poses["carrot_1"], draw.poses["plate_1"]
        assert inside(carrot[0], LEFT)
        assert inside(plate[0], RIGHT)
        for name, (pos, _) in draw.poses.items():
            item = own.scene.items[name]
            assert TABLE_TOP_M <= pos[2] + item.bottom <= TABLE_TOP_M + 0.011
    places = np.array([draw.poses["carrot_1"][0][:2] for draw in made])
    assert np.ptp(places, axis=0) == pytest.approx([0.18, 0.18], abs=0.01), "all of the region is used"


def test_angles_lie_in_their_range_about_the_vertical(own):
    angles = []
    for draw in draws(placer_of(own), 200):
        w, x, y, z = draw.poses["carrot_1"][1]
        assert (x, y) == (0, 0)
        angles.append(2 * np.arctan2(z, w))
        assert draw.poses["plate_1"][1] == pytest.approx([1, 0, 0, 0]), "without a range it is not turned"
    assert min(angles) >= -1.2
    assert max(angles) <= 1.2
    assert np.ptp(angles) > 2


def test_things_keep_their_distance(tmp_path):
    together = TABLETOP.replace("-0.14 -0.24 0.04 -0.08", "-0.16 0.06 0.02 0.24")
    sim = MujocoSimulation(tabletop(tmp_path, text=together))
    radius = sum(item.radius for item in sim.scene.items.values())
    for draw in draws(placer_of(sim), 100):
        offset = draw.poses["carrot_1"][0][:2] - draw.poses["plate_1"][0][:2]
        assert np.linalg.norm(offset) > radius


def test_what_stands_on_a_thing_goes_with_it(tmp_path):
    sim = MujocoSimulation(tabletop(tmp_path, init=STACKED))
    for draw in draws(placer_of(sim), 20):
        offset = draw.poses["carrot_1"][0] - draw.poses["plate_1"][0]
        assert offset[:2] == pytest.approx([0, 0])
        assert 0 < offset[2] < 0.06


def test_a_stream_gives_the_same_scenes_again_and_another_one_others(own):
    placer = placer_of(own)

    def poses(made):
        return [np.concatenate([*draw.poses["carrot_1"], *draw.poses["plate_1"]]).tobytes() for draw in made]

    first = poses(draws(placer, 5))
    assert poses(draws(placer, 5)) == first
    assert poses(draws(placer_of(own), 5)) == first, "a placer keeps nothing"
    assert len({*first, *poses(draws(placer, 5, seed=1))}) == 10


def test_without_room_the_file_and_the_thing_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "_ATTEMPTS", 20)
    monkeypatch.setattr(placement, "_RESETS", 5)
    full = TABLETOP.replace("-0.14 -0.24 0.04 -0.08", "-0.001 0.1 0 0.101").replace(
        "-0.16 0.06 0.02 0.24", "-0.001 0.1 0 0.101"
    )
    sim = MujocoSimulation(tabletop(tmp_path, text=full))
    with pytest.raises(PlacementError, match=r"own\.bddl: no room for 'carrot_1' in 5 resets"):
        sim.reset(Episode(BRIDGE, seed=0))


ON_PLATE, ON_TABLE = APART.split(") ")[0] + ")", "(On carrot_1 main_table_left_region)"


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (ON_PLATE, r":8: \(:init …\) does not place 'carrot_1'"),
        (
            f"{ON_PLATE} (On carrot_1 main_table)",
            r":10: cannot start with on\(carrot_1, main_table\): 'main_table' is neither",
        ),
        (
            f"{ON_PLATE} (In carrot_1 plate_1)",
            ":10: cannot start with .*'plate_1' is neither a region nor an object",
        ),
        (f"{APART} {ON_TABLE}", ":10: cannot start with .*'carrot_1' is already placed"),
        (
            f"{APART} (On main_table_left_region plate_1)",
            ":10: .*'main_table_left_region' is not an object or fixture",
        ),
        (f"{ON_PLATE} (On carrot_1 carrot_1)", ":10: cannot start with .*'carrot_1' is not placed before it"),
        ("(On plate_1 carrot_1) (On carrot_1 plate_1)", ":10: cannot start with .* is not placed before it"),
        (
            f"{APART} (Open plate_1)",
            r":10: cannot start with open\(plate_1\): 'plate_1' has no joint that it sets",
        ),
    ],
)
def test_an_initial_state_that_cannot_be_is_refused_with_its_line(tmp_path, init, message):
    with pytest.raises(DataError, match=rf"own\.bddl{message}"):
        MujocoSimulation(tabletop(tmp_path, init=init))


def test_a_rotation_in_single_precision_is_a_rotation():
    for quat in seeding.generator("eval", "rotations").normal(size=(50, 4)):
        R = float32_rotation(quat)
        assert pytest.approx(np.eye(3), abs=1e-6) == R @ R.T
        assert np.linalg.det(R) == pytest.approx(1, abs=1e-6)


# ── LIBERO's lists of draws ────────────────────────────────────────────────────────────────────────────


@needs_libero
def test_joints_are_drawn_within_their_ranges():
    sim = simulation(catalog.task("libero_10/9").id)
    placer = placer_of(sim)
    assert placer.properties_per_build == 1
    angles = [angle for draw in draws(placer, 50) for angle in draw.joints.values()]
    assert -2.094 <= min(angles) < max(angles) <= -1.3


@needs_libero
def test_each_build_of_the_original_draws_its_joints_once_more():
    """The original never clears its list of samplers, so a later reset consumes more of the stream."""
    placer = placer_of(simulation(catalog.task("libero_10/9").id))
    first, second = (placer.sample(seeding.libero_stream(0), builds) for builds in (2, 3))
    assert (first.builds, second.builds) == (2, 3)
    assert first.joints != second.joints
    without = placer_of(simulation(catalog.task("libero_object/0").id))
    a, b = (without.sample(seeding.libero_stream(0), builds) for builds in (2, 3))
    assert all(np.array_equal(a.poses[name][0], b.poses[name][0]) for name in a.poses), "nothing to draw"
