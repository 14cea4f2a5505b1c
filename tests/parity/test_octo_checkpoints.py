"""Files in the official form against what the original has written into them, and its pictures."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from support.octo import fair, recorded

from vla_bench.policy import images
from vla_bench.policy.octo.checkpoint import load_octo, tensors_of
from vla_bench.policy.octo.config import read_config
from vla_bench.policy.octo.conventions import View
from vla_bench.policy.octo.flax import flax_tensors, step_folder
from vla_bench.policy.octo.frames import Frame
from vla_bench.policy.octo.packed import packed_leaves
from vla_bench.policy.octo.scaling import read_statistics
from vla_bench.policy.precision import backend


@pytest.mark.parametrize("folder", recorded("ckpt_*/"))
def test_octo_checkpoint_has_the_recorded_parameters(folder):
    assert folder is not None, "CI must have the recordings"
    found = flax_tensors(step_folder(folder))
    with np.load(folder.parent / "ckpt_expected_params.npz") as expected:
        assert found.keys() == set(expected.files)
        for name in expected.files:
            assert found[name].shape == expected[name].shape
            np.testing.assert_array_equal(found[name].read(), expected[name])


@pytest.mark.parametrize("folder", recorded("ckpt_*/"))
def test_octo_checkpoint_says_what_it_is(folder):
    assert folder is not None, "CI must have the recordings"
    config, statistics = read_config(folder), read_statistics(folder)
    raw = json.loads((folder / "config.json").read_text())
    assert config.window == raw["window_size"]
    table = json.loads((folder / "dataset_statistics.json").read_text())
    key = statistics.key(("bridge_dataset",))
    scaling = statistics.scaling(key, "action", "normal")
    np.testing.assert_array_equal(scaling.offset, table[key]["action"]["mean"])
    np.testing.assert_array_equal(scaling.mask, table[key]["action"]["mask"])
    batch = packed_leaves(folder / "example_batch.msgpack")
    picture = batch["observation/image_primary"]
    assert picture.shape[1] == config.window
    assert picture.dtype == torch.uint8


@pytest.mark.parametrize("folder", recorded("ckpt_*/"))
def test_octo_checkpoint_fills_the_model_that_it_describes(folder):
    assert folder is not None, "CI must have the recordings"
    config = read_config(folder)
    model, head = load_octo(config, tensors_of(folder, config), folder, backend("fp32"), torch.device("cpu"))
    assert all(p.device.type == "cpu" for part in (model, head) for p in part.parameters())


@pytest.mark.parametrize("path", recorded("extras*.npz"))
def test_octo_sees_pictures_as_tensorflow_showed_them(path):
    assert path is not None, "CI must have the recordings"
    wrapper = Frame(View(camera="any", crop_area=0.9), mirrored=False, size_px=256)
    levels, share = (
        fair(path.parent, "resize u8, levels"),
        fair(path.parent, "resize u8, share of differing values"),
    )
    with np.load(path) as data:
        names = sorted({n.split("/")[1] for n in data.files if re.fullmatch(r"resize/\w+/in", n)})
        if not names:
            pytest.skip("these recordings leave the pictures out: VLA_BENCH_GOLDENS names a folder with all")
        for name in names:
            given = data[f"resize/{name}/in"]
            if f"resize/{name}/lanczos_f32_sample" in data.files:
                unrounded = images.lanczos3_float(given, 256, 256)[::16, ::16]
                bound = fair(path.parent, "resize float")
                np.testing.assert_allclose(
                    unrounded, data[f"resize/{name}/lanczos_f32_sample"], rtol=0, atol=bound
                )
            made = {"lanczos_u8": images.lanczos3(given, 256, 256), "wrapper_u8": wrapper.prepared(given)}
            for kind, found in made.items():
                if f"resize/{name}/{kind}" in data.files:
                    differing = np.abs(found.astype(int) - data[f"resize/{name}/{kind}"])
                    assert differing.max() <= levels
                    assert (differing > 0).mean() <= share
