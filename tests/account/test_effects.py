"""The effects of a model of all episodes in tables: of axes, and of precision × pacing."""

import pytest
from support.records import make_record, write_run
from support.timed import of, record_of

from vla_bench import seeding
from vla_bench.account import crossed
from vla_bench.account.counted import count
from vla_bench.account.tables import effects
from vla_bench.run.records import read_run

TASKS = [f"t{i}" for i in range(12)]
AXES = dict(zip(TASKS, ["visual"] * 6 + ["motion"] * 4 + ["physical"] * 2, strict=True))
RATES = {"": 0.8, "visual.fog@2": 0.4, "visual.blur@2": 0.5, "motion.relocation@2": 1.0}


def drawn(rate):
    """12 tasks × 4 starts."""
    won = seeding.generator("statistics", "test effects", int(100 * rate)).random((12, 4)) < rate
    return {(task, i): bool(own[i]) for task, own in zip(TASKS, won, strict=True) for i in range(4)}


def rows_of(table):
    return [dict(zip(table.numbers_header, row, strict=True)) for row in table.numbers]


@pytest.fixture(scope="module")
def axes(tmp_path_factory):
    """An arm under factors of two axes, and one that never succeeds."""
    made = [
        make_record(
            "success" if won and policy == "p" else "failure",
            policy=policy, task=task, index=i, variation=variation, task_axis=AXES[task],
        )
        for policy in ("p", "never") for variation, rate in RATES.items()
        for (task, i), won in drawn(rate).items()
    ]  # fmt: skip
    [table] = effects.of_axes(count(read_run(write_run(tmp_path_factory.mktemp("axes"), made))))
    return table


def test_an_axis_of_factors_is_compared_with_the_same_tasks_unvaried(axes):
    [row] = [row for row in rows_of(axes) if row["policy"] == "p" and row["axis"] == "visual@2"]
    won = {variation: sum(drawn(rate).values()) for variation, rate in RATES.items()}
    truth = (won["visual.fog@2"] + won["visual.blur@2"]) / 96 - won[""] / 48
    assert (row["against"], row["episodes"]) == ("unvaried", 144)
    assert row["difference"] == pytest.approx(truth, abs=1e-6)
    assert row["low"] < row["difference"] < row["high"] < 0
    assert row["p"] < 0.05
    assert row["p"] < row["p_holm"]
    assert "Mancl and DeRouen" in row["method"]


def test_an_axis_of_tasks_is_compared_with_the_other_tasks(axes):
    found = {row["axis"]: row for row in rows_of(axes) if row["policy"] == "p"}
    won = drawn(0.8)
    visual = [won[task, i] for task, i in won if AXES[task] == "visual"]
    others = [won[task, i] for task, i in won if AXES[task] != "visual"]
    assert found["visual"]["against"] == "other axes"
    assert found["visual"]["difference"] == pytest.approx(sum(visual) / 24 - sum(others) / 24, abs=1e-6)


def test_levels_that_few_tasks_have_are_marked(axes):
    found = {row["axis"]: row for row in rows_of(axes) if row["policy"] == "p"}
    flagged = {axis: bool(row["warning"]) for axis, row in found.items()}
    assert flagged == {
        "visual": False, "motion": True, "physical": True, "visual@2": False, "motion@2": False
    }  # fmt: skip
    marked = {row[3]: "§" in row[-2] for row in axes.rows if row[1] == "p"}
    assert marked == flagged
    assert any(sentence.startswith("§: fewer than 5 tasks") for sentence in axes.caption)


def test_separated_levels_are_refused_and_the_table_says_what_to_read_instead(axes):
    found = {(row["policy"], row["axis"]): row for row in rows_of(axes)}
    assert found["p", "motion@2"]["refused"] == "axis=motion@2 has no failures: its odds are infinite"
    for axis in ("visual", "motion", "physical", "visual@2"):
        never = found["never", axis]
        assert never["refused"].endswith("has no successes: its odds are infinite")
        assert never["p"] is never["difference"] is None
    [said] = [sentence for sentence in axes.caption if sentence.startswith("No model: (1) axis=motion@2")]
    assert "the paired `factor_drops` hold" in said
    [refused] = [row for row in axes.rows if row[1] == "p" and row[3] == "motion@2"]
    assert refused[-4:] == ("-", "none (1)", "-", "-")


def grid(pacings):
    """Two precisions under two pacings, by rates."""
    return [
        record_of("success" if won else "failure", precision, "zero", pacing=pacing, task=task, index=i)
        for (precision, pacing), rate in pacings.items()
        for (task, i), won in drawn(rate).items()
    ]


GRID = {("bf16", "blocking"): 0.81, ("bf16", "realtime"): 0.7,
        ("int8", "blocking"): 0.82, ("int8", "realtime"): 0.3}  # fmt: skip


def test_precision_and_pacing_have_an_interaction_by_pairs_and_by_model(tmp_path):
    [table] = effects.of_precision_and_pacing(of(tmp_path, grid(GRID)))
    [row] = rows_of(table)
    rate = {cell: sum(drawn(own).values()) / 48 for cell, own in GRID.items()}
    truth = (rate["int8", "realtime"] - rate["int8", "blocking"]) - (
        rate["bf16", "realtime"] - rate["bf16", "blocking"]
    )
    assert (row["precision"], row["pacing"]) == ("int8 against bf16", "realtime against blocking")
    assert row["paired_difference"] == pytest.approx(truth)
    assert row["difference"] == pytest.approx(truth, abs=1e-6), "the model is saturated"
    assert row["paired_low"] < truth < row["paired_high"]
    assert row["low"] < truth < row["high"] < 0
    assert max(row["p"], row["paired_p"]) < 0.05


def test_without_a_model_the_paired_interaction_holds(tmp_path):
    [table] = effects.of_precision_and_pacing(of(tmp_path, grid({**GRID, ("bf16", "blocking"): 1.0})))
    [row] = rows_of(table)
    assert row["refused"] == "weights=bf16 with timing=blocking has no failures: its odds are infinite"
    assert row["p"] is None
    assert row["paired_p"] < 0.05
    assert any("There the paired numbers beside hold." in sentence for sentence in table.caption)


def test_one_pacing_has_no_interaction(tmp_path):
    made = {cell: rate for cell, rate in GRID.items() if cell[1] == "realtime"}
    assert list(effects.of_precision_and_pacing(of(tmp_path, grid(made)))) == []


def test_crossed_studies_have_the_model_below_the_paired_interaction(tmp_path):
    cells = {("bf16", "zero"): 0.9, ("bf16", "constant:100ms"): 0.81, ("bf16", "constant:400ms"): 0.7,
             ("int8", "constant:100ms"): 0.82, ("int8", "constant:400ms"): 0.3}  # fmt: skip
    made = [
        record_of("success" if won else "failure", precision, latency, task=task, index=i)
        for (precision, latency), rate in cells.items()
        for (task, i), won in drawn(rate).items()
    ]
    own = {"bf16": "constant:100ms", "int8": "constant:400ms"}
    _, table = crossed.tables(of(tmp_path, made, crossed={"reference": "bf16", "latencies": own}))
    rows = {row["effect"]: row for row in rows_of(table)}
    order = list(rows)
    assert order.index(crossed.MODELLED) == order.index("interaction") + 1
    paired, model = rows["interaction"], rows[crossed.MODELLED]
    assert model["difference"] == pytest.approx(paired["difference"], abs=1e-6)
    assert "GEE over 12 tasks" in model["interval_method"]
    assert model["p"] == model["p_holm"]
