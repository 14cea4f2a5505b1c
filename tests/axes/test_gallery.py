import imageio.v3 as imageio
import numpy as np
import pytest
from support.worlds import BRIDGE
from typer.testing import CliRunner

from vla_bench import catalog, cli
from vla_bench.axes.gallery import Row, contact_sheet, factor_pictures, write_factors, write_stills
from vla_bench.axes.variation import VariationError
from vla_bench.errors import UnknownNameError, VlaBenchError

TASK = catalog.task(BRIDGE)
LOOKS = ["visual.lighting", "visual.fog"]


def holds(sheet, picture):
    """Whether a picture stands somewhere in a sheet, pixel by pixel."""
    (height, width), (down, across) = picture.shape[:2], sheet.shape[:2]
    fits = np.ones((down - height + 1, across - width + 1), dtype=bool)
    edges = np.abs(np.diff(picture.astype(int), axis=1)).sum(axis=-1)
    for pixel in np.argsort(edges, axis=None)[-8:]:  # the starkest leave few places to compare in full
        y, x = np.unravel_index(pixel, edges.shape)
        fits &= (sheet[y : y + fits.shape[0], x : x + fits.shape[1]] == picture[y, x]).all(axis=-1)
    return any(np.array_equal(sheet[y : y + height, x : x + width], picture) for y, x in np.argwhere(fits))


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
    with pytest.raises(UnknownNameError, match=r"visual\.fog"):
        factor_pictures(TASK, ["visual.fogg"], "0,1")
    with pytest.raises(VariationError, match="levels go from 0"):
        factor_pictures(TASK, ["visual.fog"], "0,6")
    with pytest.raises(VlaBenchError, match=r"physical\.mass: does not show"):
        write_factors(TASK, ["physical.mass"], "0,1", None)


def test_the_command_draws_every_task_and_says_what_it_leaves_out(tmp_path):
    stem, stems = TASK.stem, catalog.suite("bridge_base").stems()
    words = ["gallery", "--suite", "bridge_base", "--task", stem, "--factors", "visual.fog,*mass"]
    ended = CliRunner().invoke(cli.app, [*words, "--levels", "0,5", "--out", str(tmp_path)])
    assert ended.exit_code == 0, ended.output
    assert "left out: physical.mass: does not show" in ended.output
    files = {path.relative_to(tmp_path / "bridge_base").as_posix() for path in tmp_path.rglob("*.png")}
    assert files == {"tasks.png", f"factors_{stem}.png", *(f"stills/{name}.png" for name in stems)}
    index = imageio.imread(tmp_path / "bridge_base" / "tasks.png")
    pictures = [imageio.imread(tmp_path / "bridge_base" / "stills" / f"{name}.png") for name in stems]
    assert all(holds(index, picture) for picture in pictures)
