"""A crossed study from its file to its tables, with effects that were planted.

The long form (`VLA_BENCH_LONG=1`) has 60 episodes instead of 4, and prints what was found (pytest -s).
"""

import os

import pytest
from support.runs import plan_of
from support.runs import run as play

from vla_bench import catalog, seeding
from vla_bench.account import crossed
from vla_bench.account.counted import count
from vla_bench.policy.cards import read_card
from vla_bench.run.conventions import policy_seed
from vla_bench.run.records import read_run
from vla_bench.types import Episode

TASK = "bridge_base/lift_the_carrot"
FAST, SLOW = "constant:100ms", "constant:240ms"
LONG = bool(os.environ.get("VLA_BENCH_LONG"))
EPISODES = 60 if LONG else 4
CELLS = [
    ("bf16", "zero"), ("bf16", FAST), ("bf16", SLOW), ("bnb_int8", FAST), ("bnb_int8", SLOW),
    ("fp32", FAST), ("fp32", SLOW),
]  # fmt: skip
TABLE = {"reference": "bf16", "latencies": {"bf16": FAST, "bnb_int8": SLOW}}


def number(episode):
    """What decides which episodes fail."""
    return seeding.generator("policy", "degraded", policy_seed(episode)).uniform()


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Records of a policy that fails by chances that differ in all four cells; at fp32 it never does."""
    numbers = sorted(number(Episode(TASK, seed=seed)) for seed in range(EPISODES))
    # chances of which each takes some episodes more than the last, whatever their numbers are
    share = [numbers[round(part * (EPISODES - 1))] + 1e-9 for part in (0.25, 0.5, 0.75)]
    chances = {"bnb_int8, fast": share[0], "bf16, slow": share[1], "bnb_int8, slow": share[2]}
    folder = tmp_path_factory.mktemp("planted")
    card = read_card("expert_degraded").source.read_text()
    (folder / "planted.toml").write_text(
        f"{card}\nslow_ms = 220.0\n"
        f"failing = {{ bnb_int8 = {chances['bnb_int8, fast']} }}\n"
        f"failing_slowly = {{ bf16 = {chances['bf16, slow']}, bnb_int8 = {chances['bnb_int8, slow']} }}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(catalog.POLICIES_DIR_VARIABLE, str(folder))
        arms = [
            {"policy": "planted", "precision": precision, "pacing": "realtime", "latency": latency}
            for precision, latency in CELLS
        ]
        play(plan_of(tasks=(TASK,), episodes=EPISODES, arm=arms, crossed=TABLE), folder / "run")
    return read_run(folder / "run"), {
        ("bf16", FAST): 0.0, ("bf16", SLOW): chances["bf16, slow"],
        ("bnb_int8", FAST): chances["bnb_int8, fast"], ("bnb_int8", SLOW): chances["bnb_int8, slow"],
    }  # fmt: skip


def test_every_cell_fails_in_the_episodes_in_which_it_was_planted_to(planted):
    run, chances = planted
    won = {(r.precision, r.latency, r.seed): r.status == "success" for r in run.records}
    for (precision, latency), chance in chances.items():
        for seed in range(EPISODES):
            spared = number(Episode(TASK, seed=seed)) >= chance
            assert won[precision, latency, seed] == (spared and won["fp32", latency, seed])


def test_the_report_finds_what_was_planted(planted):
    run, chances = planted
    alone = [record for record in run.records if record.precision == "fp32"]
    expert = {
        latency: [record.status == "success" for record in alone if record.latency == latency]
        for latency in (FAST, SLOW)
    }
    numbers = [number(Episode(TASK, seed=seed)) for seed in range(EPISODES)]

    def rate(precision, latency):
        chance = chances[precision, latency]
        return (
            sum(own >= chance and won for own, won in zip(numbers, expert[latency], strict=True)) / EPISODES
        )

    truth = {
        "weights": rate("bnb_int8", FAST) - rate("bf16", FAST),
        "timing": rate("bf16", SLOW) - rate("bf16", FAST),
        "total": rate("bnb_int8", SLOW) - rate("bf16", FAST),
    }
    truth["interaction"] = truth["total"] - truth["weights"] - truth["timing"]
    assert truth["weights"] < 0
    assert truth["timing"] < truth["weights"]
    _, table = crossed.tables(count(run))
    rows = [dict(zip(table.numbers_header, row, strict=True)) for row in table.numbers]
    found = {row["effect"]: row["difference"] for row in rows if row["precision"] == "bnb_int8"}
    for kind, value in truth.items():
        if LONG:
            print(f"{kind}: planted {100 * value:+.2f}, found {100 * found[kind]:+.2f} points")
        assert found[kind] == pytest.approx(value), kind
