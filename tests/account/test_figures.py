import re

import matplotlib as mpl
import matplotlib.image
import pytest
from support.boards import board_of, certificate, records_of

from vla_bench.account.figures import write_figure
from vla_bench.account.figures.figure import METADATA, WIDTH_IN, looks
from vla_bench.account.figures.robustness import curves
from vla_bench.account.rollups import by_factor


def curves_of(factors, policies=("p", "q"), levels=(0, 2, 4)):
    variations = [f"{factor}@{level}" if level else "" for factor in factors for level in levels]
    certificates = {k: v for variation in variations for k, v in certificate(("t0", "t2"), variation).items()}
    made = [
        records_of(variation, tasks=("t0", "t2"), policy=policy, letters="sfs")
        for variation in dict.fromkeys(variations)
        for policy in policies
    ]
    return by_factor([board_of(*made, certificates=certificates)])


def draw_curves(made, folder, confidence):
    """Write the curves; their drawings, without the CSV."""
    arms = tuple(dict.fromkeys(line.arm for line in made.lines))
    written = [
        path for figure in curves(made, looks(arms), confidence) for path in write_figure(figure, folder)
    ]
    return [path for path in written if path.suffix != ".csv"]


def test_every_factor_axis_has_a_figure(tmp_path):
    files = draw_curves(curves_of(["visual.fog", "visual.blur", "motion.relocation"]), tmp_path, 0.95)
    assert [path.name for path in files] == [
        f"robustness_{axis}.{ending}" for axis in ("visual", "motion") for ending in METADATA
    ]
    assert all(path.stat().st_size > 1000 for path in files)


@pytest.mark.parametrize(("levels", "drawn"), [((0, 1), 3), ((1, 2), 3), ((2,), 0)])
def test_a_curve_needs_two_levels(tmp_path, levels, drawn):
    assert len(draw_curves(curves_of(["visual.fog"], levels=levels), tmp_path, 0.95)) == drawn


def test_pdfs_embed_their_fonts_and_carry_no_date(tmp_path):
    pdf, png, svg = draw_curves(curves_of([f"visual.f{i}" for i in range(5)]), tmp_path, 0.95)
    content = pdf.read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content
    assert b"Software" not in png.read_bytes()
    assert b"<dc:date>" not in svg.read_bytes()
    box = re.search(rb"/MediaBox \[ *0 0 ([0-9.]+)", content)
    assert box is not None
    assert float(box[1]) == pytest.approx(72 * WIDTH_IN)


def test_the_readers_style_does_not_matter(tmp_path):
    curves = curves_of(["visual.fog"])
    (tmp_path / "b").mkdir()
    plain = draw_curves(curves, tmp_path, 0.95)
    with mpl.rc_context({"font.size": 30, "pdf.fonttype": 3, "savefig.dpi": 50}):
        styled = draw_curves(curves, tmp_path / "b", 0.95)
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in styled]


def test_more_arms_than_colours_are_still_told_apart(tmp_path):
    from vla_bench.account.figures.figure import COLOURS, MARKERS

    looks = {(i % len(COLOURS), (i + i // len(COLOURS)) % len(MARKERS)) for i in range(49)}
    assert len(looks) == 49
    policies = [f"policy{i}" for i in range(9)]
    _, png, _ = draw_curves(curves_of(["visual.fog", "visual.blur"], policies), tmp_path, 0.95)
    assert mpl.image.imread(png).shape[1] == round(200 * WIDTH_IN)
