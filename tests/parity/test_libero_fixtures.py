"""Sampled scenes of seeded resets and of sequences of resets."""

from __future__ import annotations

import numpy as np
import pytest
from support.goldens import recordings
from support.libero import simulation, task_of

from vla_bench import seeding
from vla_bench.types import Episode


@pytest.mark.parametrize("path", recordings("libero", "fixtures"))
def test_libero_resets_draw_what_the_original_draws(path, libero_tolerances):
    assert path is not None, "CI must have the recordings"
    sim, tolerance = simulation(task_of(path)), libero_tolerances["fixtures"]

    def compare(data, prefix: str, row: int) -> None:
        for name, ours in (
            ("qpos", sim.data.qpos),
            ("body_pos", sim.model.body_pos),
            ("body_quat", sim.model.body_quat),
        ):
            np.testing.assert_allclose(
                ours, data[f"{prefix}_{name}"][row], atol=tolerance, rtol=0, err_msg=f"{prefix} {row} {name}"
            )

    with np.load(path) as data:
        per_build = sim.starts.placer.properties_per_build
        for row, seed in enumerate(data["seeds"]):
            # one environment: every reset before this one has built the model once more
            builds = row + 2
            stream = seeding.libero_stream(int(seed))
            sim._reset_to(sim.starts.placer.sample(stream, builds))
            compare(data, "reseed", row)
            assert data["reseed_n_property_samplers"][row] == builds * per_build
            np.testing.assert_array_equal(stream.random_sample(4), data["reseed_rng_after"][row])
        sim.reset(Episode(sim.task.id, seed=int(data["seeds"][0])))
        compare(data, "reseed", 0)
        stream, builds = seeding.libero_stream(0), 2
        for row in range(len(data["sequence_qpos"])):
            draw = sim.starts.placer.sample(stream, builds)
            builds = draw.builds + 1
            sim._reset_to(draw)
            compare(data, "sequence", row)
            np.testing.assert_array_equal(stream.random_sample(4), data["sequence_rng_after"][row])
            stream = _rewind(row, sim)
        for row in range(len(data["sequence_qpos"])):
            sim.reset(Episode(sim.task.id, init_state=row))
            np.testing.assert_allclose(
                sim.model.body_pos, data["sequence_body_pos"][row], atol=tolerance, rtol=0
            )
            np.testing.assert_allclose(
                sim.model.body_quat, data["sequence_body_quat"][row], atol=tolerance, rtol=0
            )


def _rewind(row: int, sim):
    """The stream as it stood after reset `row`, without the four values drawn for the comparison."""
    stream, builds = seeding.libero_stream(0), 2
    for _ in range(row + 1):
        builds = sim.starts.placer.sample(stream, builds).builds + 1
    return stream
