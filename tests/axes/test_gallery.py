import imageio.v3 as imageio
import numpy as np
import pytest
from support.worlds import BRIDGE

from vla_bench import catalog
from vla_bench.axes.gallery import Row, contact_sheet, factor_pictures, write_factors, write_stills
from vla_bench.axes.variation import VariationError
from vla_bench.errors import UnknownNameError, VlaBenchError

TASK = catalog.task("bridge_base/put_the_carrot_on_the_plate")
LOOKS = ["visual.lighting", "visual.fog"]


def holds(sheet, picture):
    """Whether a picture stands somewhere in a sheet, pixel by pixel."""
    height, width = picture.shape[:2]
    corners = np.argwhere((sheet[: 1 - height, : 1 - width] == picture[0, 0]).all(axis=-1))
    return any(np.array_equal(sheet[y : y + height, x : x + width], picture) for y, x in corners)


@pytest.fixture(scope="module")
def made():
    return factor_pictures(TASK, [*LOOKS, "physical.mass", "physical.joint_damping"], "0,3")


def test_level_0_is_the_still_and_a_higher_level_is_not(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    files = list(write_stills([TASK], folder))
    assert files == [folder / "stills" / f"{TASK.stem}.png", folder / "tasks.png"]
    still = imageio.imread(files[0])
    assert still.shape == (224, 224, 3)
    assert list(made.pictures) == LOOKS
    for drawn in made.pictures.values():
        assert np.array_equal(drawn[0], still)
        assert np.abs(drawn[3].astype(int) - still).mean() > 2
    index = imageio.imread(files[1])
    assert holds(index, still)
    assert (index[: index.shape[0] - 228] < 100).any(), "the task's name stands above its picture"


def test_a_factor_that_is_refused_or_does_not_show_is_named_with_the_reason(made):
    assert set(made.left_out) == {"physical.mass", "physical.joint_damping"}
    assert "first picture" in made.left_out["physical.mass"]
    assert "joint" in made.left_out["physical.joint_damping"]


def test_a_sheet_has_a_row_a_factor_and_a_column_a_level(made, tmp_path):
    file, left_out = write_factors(TASK, LOOKS, "0,3", tmp_path / "new")
    assert file == tmp_path / "new" / f"factors_{TASK.stem}.png"
    assert left_out == {}
    sheet = imageio.imread(file)
    for drawn in made.pictures.values():
        assert all(holds(sheet, picture) for picture in drawn.values())
    assert 2 * 224 < sheet.shape[0] < 2 * 300
    assert 2 * 224 < sheet.shape[1] < 2 * 224 + 200


def test_a_picture_that_does_not_exist_leaves_its_place_blank():
    picture = np.zeros((80, 90, 3), dtype=np.uint8)
    both, one = (contact_sheet([Row("", {"a": picture, "b": last})]) for last in (picture, None))
    assert both.shape == one.shape
    assert (both[-50, -50] == 0).all()
    assert (one[-50, -50] > 200).all()


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(UnknownNameError, match="visual.fog"):
        factor_pictures(TASK, ["visual.fogg"], "0,1")
    with pytest.raises(VariationError, match="levels go from 0"):
        factor_pictures(TASK, ["visual.fog"], "0,6")
    with pytest.raises(VlaBenchError, match=r"physical\.mass: does not show"):
        write_factors(catalog.task(BRIDGE), ["physical.mass"], "0,1", None)
