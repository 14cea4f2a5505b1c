"""The action heads and what they pool against the original, each from what it is given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.octo import fair, recorded, recorded_config, recorded_parameters, stored

from vla_bench.policy.octo import bins
from vla_bench.policy.octo.diffusion import Schedule
from vla_bench.policy.octo.heads import ContinuousHead, DiffusionHead
from vla_bench.policy.octo.names import translate
from vla_bench.policy.octo.pooling import AttentionPooling
from vla_bench.policy.octo.scaling import Statistics
from vla_bench.policy.octo.settings import Continuous
from vla_bench.policy.tensors import fill

CPU, FP32 = torch.device("cpu"), torch.float32
# the original draws noise for every time step, and returns the last one's actions
LAST = (..., -1, slice(None), slice(None))


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array))


def close(found, recording, bound: float) -> None:
    np.testing.assert_allclose(np.asarray(found), recording, rtol=0, atol=bound)


def head_of(folder: Path, **further: np.ndarray) -> DiffusionHead:
    """The recordings' diffusion head."""
    config = recorded_config(folder)
    ours = translate(recorded_parameters(folder, **further), config)
    own = {name.removeprefix("head."): t for name, t in ours.items() if name.startswith("head.")}
    head = DiffusionHead(config.head, config.width)
    fill(head, own, dtype=FP32, device=CPU, source=folder)
    return head


def filled(module: torch.nn.Module, data, prefix: str, folder: Path) -> torch.nn.Module:
    """A module with the parameters that a recording has under `prefix`."""
    names = [name for name in data if name.startswith(prefix)]
    place = "heads_action/map_head/" if isinstance(module, AttentionPooling) else "heads_action/"
    ours = translate(
        stored({place + name.removeprefix(prefix): data[name] for name in names}, folder),
        recorded_config(folder),
    )
    within = "head.pooling." if isinstance(module, AttentionPooling) else "head."
    own = {name.removeprefix(within): tensor for name, tensor in ours.items()}
    fill(module, own, dtype=FP32, device=CPU, source=folder)
    return module


@pytest.mark.parametrize("path", recorded("schedule.npz"))
def test_octo_schedule_is_the_recorded_one(path):
    assert path is not None, "CI must have the recordings"
    with np.load(path) as data:
        made = Schedule.cosine(len(data["betas"]))
        for name in ("betas", "alphas", "alpha_hats"):
            close(getattr(made, name), data[name], fair(path.parent, "schedule"))


@pytest.mark.parametrize("path", recorded("case_head_only*.npz"))
@torch.inference_mode()
def test_octo_diffusion_head_denoises_as_recorded(path):
    assert path is not None, "CI must have the recordings"
    folder = path.parent
    with np.load(path) as data:
        replaced = {n.removeprefix("params/"): data[n] for n in data.files if n.startswith("params/")}
        head = head_of(folder, **replaced)
        embedding = head.pooled(tensor(data["readout_action/tokens"]), tensor(data["readout_action/mask"]))
        predicted = head.score(embedding, tensor(data["eps/noisy"]), tensor(data["eps/time"]))
        close(predicted, data["eps/pred"], fair(folder, "head only, eps"))
        start, noise, bound = (
            tensor(data["noise/x_T"]),
            tensor(data["noise/z"]),
            fair(folder, "head only, actions"),
        )
        close(head.sample(embedding, start, noise, 7)[LAST], data["actions_norm"], bound)
        close(head.sample(embedding, start, noise, 5)[LAST], data["actions_norm_mask5"], bound)


CASES = [path for path in recorded("case_*.npz") if "head_only" not in str(path.id)]


@pytest.mark.parametrize("path", CASES)
@torch.inference_mode()
def test_octo_actions_follow_from_the_recorded_readout(path):
    assert path is not None, "CI must have the recordings"
    folder = path.parent
    head, bound = head_of(folder), fair(folder, "actions from the golden readout")
    table = json.loads((folder / "config.json").read_text())["stats"]
    five = {name: values[:5] for name, values in table.items()}
    scaling, fewer = (
        Statistics({"only": {"action": t}}, folder).scaling("only", "action", "normal") for t in (table, five)
    )
    with np.load(path) as data:
        tokens = tensor(data["out/readout_action/tokens"])
        embedding = head.pooled(tokens, torch.ones(tokens.shape[:-1], dtype=torch.bool))
        predicted = head.score(embedding, tensor(data["eps/noisy"]), tensor(data["eps/time"]))
        close(predicted, data["eps/pred"], fair(folder, "eps"))
        start, noise = tensor(data["noise/x_T"]), tensor(data["noise/z"])
        actions = head.sample(embedding, start, noise, scaling.size)[LAST].numpy()
        close(actions, data["actions_norm"], bound)
        close(scaling.unnormalise(actions), data["actions_unnorm"], bound)
        masked = head.sample(embedding, start, noise, fewer.size)[LAST].numpy()
        close(fewer.unnormalise(masked), data["actions_unnorm_5dim"], bound)


@pytest.mark.parametrize("path", recorded("extras.npz"))
@torch.inference_mode()
def test_octo_pooling_by_attention_is_the_recorded_one(path):
    assert path is not None, "CI must have the recordings"
    with np.load(path) as data:
        tokens, mask = tensor(data["map/x"]), tensor(data["map/mask"])
        probes = data["map/params/probe"].shape[1]
        pooling = AttentionPooling(tokens.shape[-1], probes)
        filled(pooling, dict(data), "map/params/", path.parent)
        close(pooling(tokens, mask), data["map/out"], fair(path.parent, "MAP pooling"))


@pytest.mark.parametrize("path", recorded("extras.npz"))
@torch.inference_mode()
def test_octo_l1_head_is_the_recorded_one(path):
    assert path is not None, "CI must have the recordings"
    with np.load(path) as data:
        tokens, mask = tensor(data["map/x"]), tensor(data["map/mask"])
        horizon, size = data["l1/out"].shape[-2:]
        settings = Continuous(readout_key="obs", use_map=True, action_horizon=horizon, action_dim=size)
        head = filled(ContinuousHead(settings, tokens.shape[-1]), dict(data), "l1/params/", path.parent)
        bound = fair(path.parent, "L1 head")
        close(head(tokens, mask, None, size), data["l1/out"], bound)
        close(head(tokens[:, -1], mask[:, -1], None, size), data["l1/predict"], bound)


@pytest.mark.parametrize("path", recorded("extras.npz"))
def test_octo_bins_of_numbers_are_the_recorded_ones(path):
    assert path is not None, "CI must have the recordings"
    with np.load(path) as data:
        values = tensor(data["lowdim/proprio"])
        for kind in ("uniform", "normal"):
            found = bins.find(values, kind, 256, -2.0, 2.0)
            np.testing.assert_array_equal(found, data[f"lowdim/{kind}/bins"])
