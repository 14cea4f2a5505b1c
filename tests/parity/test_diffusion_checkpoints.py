"""Checkpoints as the original code and LeRobot write them: names, shapes, numbers, configuration, actions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support.diffusion import fair, recorded, stored_state

from vla_bench.policy.diffusion.archive import read_archive
from vla_bench.policy.diffusion.checkpoint import Trained
from vla_bench.policy.diffusion.lerobot import assembled
from vla_bench.policy.diffusion.model import DiffusionNet
from vla_bench.policy.diffusion.official import read_official
from vla_bench.policy.diffusion.schedule import Schedule
from vla_bench.policy.tensors import check, fill

CPU = torch.device("cpu")


@pytest.mark.parametrize("path", recorded("official_*.ckpt"))
def test_diffusion_official_checkpoint_has_the_recorded_tensors(path):
    assert path is not None, "CI must have the recordings"
    expected = json.loads(path.with_name(f"{path.stem}_expected.json").read_text())
    archive = read_archive(path)
    tensors = archive.tensors(archive.content["state_dicts"]["ema_model"], "ema_model")
    assert {name: list(each.shape) for name, each in tensors.items()} == {
        name: entry["shape"] for name, entry in expected.items()
    }
    bound = fair(path.parent, f"{path.name}: first values")
    for name, entry in expected.items():
        if entry["first"] is not None:
            assert abs(float(tensors[name].read().flatten()[0]) - entry["first"]) <= bound, name


@pytest.mark.parametrize("path", recorded("official_*.ckpt"))
def test_diffusion_official_checkpoint_fits_its_own_configuration(path):
    """Every weight of the moving average has its place, and every input its normalisation."""
    assert path is not None, "CI must have the recordings"
    trained = read_official(path)
    net = DiffusionNet.on_meta(trained.design)
    check({name: tuple(value.shape) for name, value in net.state_dict().items()}, trained.weights, path)
    averaged = read_archive(path).content["state_dicts"]["ema_model"]
    assert len(trained.weights) < len(averaged)
    assert (trained.design.history, trained.design.horizon, trained.design.executed) == (2, 16, 8)
    assert len(trained.scalings) == len(trained.design.inputs) + 1


def given(trained: Trained, data) -> dict[str, torch.Tensor]:
    """The recorded observations, normalised: one for each step."""
    found = {}
    for each in trained.design.inputs:
        value = torch.from_numpy(data["in/" + each.key.rpartition(".")[2]])
        value = value.float() / 255 if value.dtype == torch.uint8 else value
        found[each.key] = trained.scalings[each.key].normalise(value)
    return found


@pytest.mark.parametrize("path", recorded("lerobot_*/golden.npz"))
@torch.inference_mode()
def test_diffusion_lerobot_conditions_and_actions_are_the_recorded_ones(path):
    assert path is not None, "CI must have the recordings"
    folder, name = path.parent, path.parent.name
    shapes = json.loads((folder.parent / "lerobot_shapes.json").read_text())[name]
    trained = assembled(folder, lambda: stored_state(folder / "model.safetensors", shapes, {}))
    design, net = trained.design, DiffusionNet.on_meta(trained.design)
    fill(net, trained.weights, dtype=torch.float32, device=CPU, source=folder)
    schedule = Schedule(design.diffusion)
    with np.load(path) as data:
        observations, noise = given(trained, data), torch.from_numpy(data["noise"])
        conditions, actions = [], []
        for call, now in enumerate(range(0, len(data["actions"]), design.executed)):
            history = [max(0, now - age) for age in reversed(range(design.history))]
            conditions.append(
                net.condition({key: value[history] for key, value in observations.items()}, [""])
            )
            drawn = noise[call * schedule.draws : (call + 1) * schedule.draws]
            predicted = net.denoise(conditions[-1], list(drawn), schedule)[0, design.history - 1 :]
            actions.append(trained.scalings["action"].unnormalise(predicted[: design.executed]))
        pairs = {
            "global_cond": (torch.cat(conditions), data["global_cond"]),
            "actions": (torch.cat(actions)[: len(data["actions"])], data["actions"]),
        }
        for stage, (found, recording) in pairs.items():
            bound = fair(folder.parent, f"{name}: {stage}")
            np.testing.assert_allclose(found, recording, rtol=0, atol=bound)
