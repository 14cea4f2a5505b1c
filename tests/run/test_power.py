import json
import sys

import pytest
from support.runs import plan_of
from support.worlds import BRIDGE

from vla_bench import cli
from vla_bench.account.statistics import detectable_paired, required_pairs, wilson
from vla_bench.cli.shared import print_rows
from vla_bench.run import power


def plan(**keys):
    return plan_of(**{"tasks": (BRIDGE,), "policies": ("noop", "random", "expert"), "episodes": 80, **keys})


def test_every_suite_and_variation_is_judged_at_the_corrected_level():
    made = power.cell_powers(plan(variations=("", "visual.lighting@2"), uncertified="run"))
    assert [(cell.suite, cell.variation, cell.episodes, cell.comparisons) for cell in made] == [
        ("bridge_base", "", 80, 3), ("bridge_base", "visual.lighting@2", 80, 3),
    ]  # fmt: skip
    assert made[0].paired["0.2"] == detectable_paired(80, 0.2, 0.05 / 3)


def test_the_width_is_wilsons_at_one_half():
    [cell] = power.cell_powers(plan())
    interval = wilson(40, 80, 0.95)
    assert interval is not None
    assert cell.half_width == pytest.approx((interval.high - interval.low) / 2)


def test_one_arm_is_no_comparison():
    [cell] = power.cell_powers(plan(policies=("noop",)))
    assert cell.comparisons == 0
    assert cell.paired["0.2"] == detectable_paired(80, 0.2, 0.05)


def test_a_difference_cannot_exceed_the_share_of_episodes_that_differ():
    rows = {row.difference: row for row in power.required(plan(policies=("noop", "random")))}
    assert rows[0.2].paired["0.1"] is None
    assert rows[0.05].paired["0.2"] == required_pairs(0.05, 0.2, 0.05)


@pytest.mark.parametrize(("episodes", "warned"), [(29, True), (30, False)])
def test_few_episodes_are_warned_of(episodes, warned, capsys):
    made = plan(episodes=episodes)
    assert bool(power.to_json(made)["warnings"]) == warned
    power.show(made, lambda rows: print_rows(rows, as_json=False))
    printed = capsys.readouterr().out
    assert ("warning: fewer than 30 episodes an arm (bridge_base: 29)" in printed) == warned
    assert "unpaired, from 80%" in printed


def test_programs_get_the_same_numbers_as_people():
    made = plan()
    found = json.loads(json.dumps(power.to_json(made)))
    [cell] = found["cells"]
    assert cell["paired"]["0.2"] == power.cell_powers(made)[0].paired["0.2"]
    assert [row["difference"] for row in found["required"]] == [0.05, 0.1, 0.2]
    assert found["level"] == pytest.approx(0.05 / 3)


def test_the_command_prints_them_for_both(monkeypatch, capfd):
    printed = []
    for flags in ([], ["--json"]):
        arguments = ["plan", "--task", BRIDGE, "--policy", "noop,random", "--episodes", "40", *flags]
        monkeypatch.setattr(sys, "argv", ["vla-bench", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
        printed.append(capfd.readouterr().out)
    assert "Smallest difference of two arms" in printed[0]
    found = json.loads(printed[1])["power"]
    [cell] = found["cells"]
    assert (cell["episodes"], cell["comparisons"]) == (40, 1)
    assert f"{100 * cell['paired']['0.3']:.1f}" in printed[0]
