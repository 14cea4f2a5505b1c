import re

import matplotlib as mpl
import pytest
from matplotlib.image import imread
from support.boards import STATUS, board_of, certificate, records_of
from support.records import make_record, write_run

from vla_bench.account.counted import count
from vla_bench.account.figures import write_figure
from vla_bench.account.figures.figure import COLUMN_WIDTH_IN, METADATA, WIDTH_IN, looks
from vla_bench.account.figures.posteriors import letters_of
from vla_bench.account.figures.robustness import curves
from vla_bench.account.figures.timeline import calls_of
from vla_bench.account.figures.tradeoffs import Point, pareto
from vla_bench.account.report import write_report
from vla_bench.account.rollups import by_factor
from vla_bench.run.records import Inferences, read_run
from vla_bench.types import Arm


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


def test_labels_say_what_tells_arms_apart_and_nothing_else():
    def labels(*arms):
        return [looks(arms)[arm].label for arm in arms]

    late = [Arm("p", "bf16", "realtime", latency) for latency in ("zero", "constant:100ms")]
    assert labels(*late) == ["zero", "constant:100ms"]
    assert labels(Arm("p", "bf16"), Arm("q", "bf16")) == ["p", "q"]
    assert labels(Arm("p", "bf16")) == ["p"]


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
    assert imread(png).shape[1] == round(200 * WIDTH_IN)


def full_run(folder, policies=("a", "b"), letters="ssfsfs", **header):
    """Two policies that do not wait, on three tasks of two axes, unvaried and varied."""
    inferences = Inferences(
        inference_ms=(50.0,) * 4, delay_ms=(300.0,) * 4, observed_ms=(0.0, 300.0, 600.0, 900.0),
        observation_age_ms=(300.0,) * 4, staleness_ms=(300.0, 100.0, 100.0, 100.0),
    )  # fmt: skip
    made = [
        make_record(
            STATUS[letters[(i + len(policy)) % len(letters)]], policy=policy, task=task, index=i,
            variation=variation, task_axis=axis, pacing="realtime", latency="constant:300ms",
            inferences=inferences, peak_device_memory_bytes=7 * 10**9,
        )
        for variation in ("", "visual.fog@2", "visual.fog@4", "motion.relocation@1")
        for task, axis in (("t0", "visual"), ("t1", "motion"), ("t2", "visual"))
        for i in range(len(letters)) for policy in policies
    ]  # fmt: skip
    return write_run(folder, made, periods_s={"s": 0.2}, **header)


ALL_FIGURES = {
    "axis_bars", "factor_bars", "tradeoffs_s", "robustness_visual", "robustness_motion", "posteriors",
    "tasks_s", "latency", "timeline",
}  # fmt: skip


def test_every_figure_has_its_numbers_and_is_as_wide_as_a_page_or_a_column(tmp_path):
    report = write_report(full_run(tmp_path))
    assert {figure.name for figure in report.figures} >= ALL_FIGURES
    for figure in report.figures:
        text = (tmp_path / "figures" / f"{figure.name}.csv").read_text()
        assert text.splitlines()[0] == ",".join(figure.header)
        assert len(text.splitlines()) == 1 + len(figure.rows) > 1
        pdf = (tmp_path / "figures" / f"{figure.name}.pdf").read_bytes()
        assert b"/FontFile2" in pdf
        assert b"/Type3" not in pdf
        box = re.search(rb"/MediaBox \[ *0 0 ([0-9.]+)", pdf)
        assert box is not None
        assert round(float(box[1]) / 72, 2) in (COLUMN_WIDTH_IN, WIDTH_IN)


def test_all_figures_are_the_same_bytes_again(tmp_path):
    files = [path for path in write_report(full_run(tmp_path)).files if path.parent.name == "figures"]
    before = {path: path.read_bytes() for path in files}
    write_report(tmp_path)
    assert {path: path.read_bytes() for path in files} == before


@pytest.mark.parametrize("letters", ["s", "f", "ssss", "ffff", "e", "se"])
def test_one_episode_and_arms_without_successes_or_failures_have_figures(tmp_path, letters):
    report = write_report(full_run(tmp_path, letters=letters))
    assert ("posteriors" in {figure.name for figure in report.figures}) == (letters != "e")


def test_without_episodes_there_are_no_figures(tmp_path):
    assert write_report(write_run(tmp_path, [])).figures == ()


def test_arms_that_a_test_does_not_tell_apart_share_a_letter(tmp_path):
    made = [
        make_record("success" if i < wins else "failure", policy=policy, index=i)
        for policy, wins in (("good", 20), ("fair", 18), ("bad", 1)) for i in range(20)
    ]  # fmt: skip
    (place,) = count(read_run(write_run(tmp_path, made))).unvaried
    told = {arm.policy: letter for arm, letter in letters_of(place, 0.95).items()}
    assert told == {"good": "a", "fair": "a", "bad": "b"}


def test_the_front_holds_what_nothing_beats_in_both():
    def point(name, x, rate):
        return Point(Arm(name), x, rate, None)

    points = [point("fast", 30, 0.5), point("good", 5, 0.9), point("worse", 4, 0.8), point("slow", 30, 0.4)]
    assert [p.arm.policy for p in pareto(points, more_is_better=True)] == ["good", "fast"]
    assert [p.arm.policy for p in pareto(points, more_is_better=False)] == ["worse", "good"]
    assert pareto([], more_is_better=True) == []


def test_a_timeline_is_what_the_clock_said():
    late = Inferences(
        inference_ms=(1.0, 1.0), delay_ms=(500.0, 500.0), observed_ms=(0.0, 500.0),
        observation_age_ms=(500.0, 500.0), staleness_ms=(500.0, 300.0),
    )  # fmt: skip
    first, second = calls_of(make_record(pacing="realtime", inferences=late, task_s=2.0), 0.2)
    assert (first.observed_s, first.applied_s, first.stale_from_s) == (0.0, 0.5, 0.0)
    assert first.fresh_until_s == pytest.approx(0.7), "one period after it was applied"
    assert (second.observed_s, second.applied_s) == (0.5, 1.0)
    assert second.stale_from_s == pytest.approx(0.7)
    assert second.fresh_until_s == pytest.approx(1.2)


def test_where_the_world_waits_thinking_is_added_to_the_clock():
    waits = Inferences(
        inference_ms=(1.0, 1.0), delay_ms=(500.0, 500.0), observed_ms=(0.0, 200.0),
        observation_age_ms=(0.0, 0.0), staleness_ms=(0.0, 0.0),
    )  # fmt: skip
    first, second = calls_of(make_record(inferences=waits, task_s=1.4), 0.2)
    assert (first.observed_s, first.applied_s, first.fresh_until_s) == (0.0, 0.5, 0.7)
    assert (second.observed_s, second.applied_s, second.fresh_until_s) == (0.7, 1.2, 1.4)


def test_names_with_mathematics_and_rare_letters_are_drawn_as_they_are(tmp_path, recwarn):
    report = write_report(full_run(tmp_path, policies=("a $x^2$ <b>", "\\frac{ 碗")))
    svg = (tmp_path / "figures" / "posteriors.svg").read_text()
    assert "<b>" not in svg
    assert len(report.figures) >= len(ALL_FIGURES)
    assert [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)] == []
