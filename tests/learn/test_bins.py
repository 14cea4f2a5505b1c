"""OpenVLA's bins on a data set: steps and shares that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from support.demonstrations import LAYOUT, MADE_WITH, picture, write_dataset

from vla_bench.errors import DataError
from vla_bench.learn.bins import report_bins
from vla_bench.learn.demonstrations import all_actions, open_demonstrations
from vla_bench.lerobot.writer import Recording


def by_name(reports, bounds):
    return {report.name: report for report in reports if report.bounds == bounds}


def test_a_step_is_the_range_in_255_parts_in_metres_and_radians(tmp_path):
    read = open_demonstrations(write_dataset(tmp_path / "d"))
    actions = all_actions(read)
    extremes = by_name(report_bins(read), "minmax")
    reach = np.ptp(actions[:, :6], axis=0) / 255
    np.testing.assert_allclose([extremes[n].step for n in ("x_m", "y_m", "z_m")], 0.05 * reach[:3])
    assert extremes["rotation_z_rad"].step == pytest.approx(0.5 * reach[5])
    assert all(report.saturated == 0 for report in extremes.values())
    assert all(report.error <= report.step / 2 * 1.001 for report in extremes.values())


def test_what_lies_beyond_the_percentiles_saturates(tmp_path):
    """Of 300 different values, 3 lie below the 1st percentile and 3 above the 99th."""
    with Recording(tmp_path / "d", LAYOUT, MADE_WITH) as recording, recording.draft() as draft:
        values = np.random.default_rng(0).permutation(np.linspace(-1, 1, 300))
        for value in values:
            images = dict.fromkeys(LAYOUT.cameras, picture(0))
            draft.add(images, np.zeros(8), np.append(np.full(6, value), 1.0))
        draft.keep("k", "t", "i")
    found = by_name(report_bins(open_demonstrations(tmp_path / "d")), "q99")
    assert (found["x_m"].saturated, found["x_m"].count) == (6, 300)
    assert found["x_m"].low == pytest.approx(-0.049)
    assert found["x_m"].step == pytest.approx(0.098 / 255)


def test_the_gripper_is_left_as_it_is(tmp_path):
    found = by_name(report_bins(open_demonstrations(write_dataset(tmp_path / "d"))), "q99")["gripper"]
    assert (found.scaled, found.low, found.high, found.saturated) == (False, -1.0, 1.0, 0)
    assert found.step == pytest.approx(2 / 255)
    assert found.error == pytest.approx(1 / 255)


def test_actions_that_are_no_numbers_are_refused(tmp_path):
    with Recording(tmp_path / "d", LAYOUT, MADE_WITH) as recording, recording.draft() as draft:
        draft.add(dict.fromkeys(LAYOUT.cameras, picture(0)), np.zeros(8), np.full(7, np.nan))
        draft.keep("k", "t", "i")
    with pytest.raises(DataError, match="not finite"):
        report_bins(open_demonstrations(tmp_path / "d"))
