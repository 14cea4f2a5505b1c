"""The official policies against the originals: schedule, features, noise and actions, stage by stage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.diffusion import fair, recorded, stored_state

from vla_bench.policy.diffusion.checkpoint import renamed
from vla_bench.policy.diffusion.design import Design
from vla_bench.policy.diffusion.model import DiffusionNet
from vla_bench.policy.diffusion.official import design_of, scalings_of
from vla_bench.policy.diffusion.schedule import Schedule, betas_of
from vla_bench.policy.tensors import fill

CPU = torch.device("cpu")
POLICIES = {"image": "diffusion_unet_image_policy.DiffusionUnetImagePolicy",
            "hybrid": "diffusion_unet_hybrid_image_policy.DiffusionUnetHybridImagePolicy"}  # fmt: skip


def policy_table(meta: dict, name: str, sampler: str = "ddpm", steps: int | None = None) -> dict:
    """The configuration of a recorded policy, as its checkpoint would have it."""
    encoder = {
        key: value for key, value in meta["encoders"][name].items() if key not in ("policy", "encoder")
    }
    model = encoder.pop("rgb_model").split()[0]
    is_hybrid = "Hybrid" in meta["encoders"][name]["policy"]
    target = "diffusion_policy.policy." + POLICIES["hybrid" if is_hybrid else "image"]
    image = {
        "_target_": "diffusion_policy.model.vision.multi_image_obs_encoder.MultiImageObsEncoder",
        "rgb_model": {"_target_": "diffusion_policy.model.vision.model_getter.get_resnet", "name": model},
        **encoder,
    }
    scheduler = f"diffusers.schedulers.scheduling_{sampler}.{sampler.upper()}Scheduler"
    return {
        "_target_": target, "shape_meta": meta["shape_meta"],
        "noise_scheduler": {"_target_": scheduler, **meta["scheduler"]},
        "num_inference_steps": steps, **meta["common"], **(encoder if is_hybrid else {"obs_encoder": image}),
    }  # fmt: skip


def network(path: Path, meta: dict, name: str) -> tuple[Design, DiffusionNet, dict]:
    """A recorded policy with its weights, and how its inputs and actions are scaled."""
    with np.load(path.parent / "normalizer.npz") as data:
        values = dict(data)
    design, rename = design_of(policy_table(meta, name), path)
    names = {**meta[name]["shapes"], **{key: list(value.shape) for key, value in values.items()}}
    state = stored_state(path, names, values)
    net = DiffusionNet.on_meta(design)
    fill(net, renamed(state, rename), dtype=torch.float32, device=CPU, source=path)
    return design, net, dict(scalings_of(state, path))


def seen(path: Path, design: Design, scalings: dict) -> dict[str, torch.Tensor]:
    """The recorded observations, normalised; batch and time are one dimension."""
    with np.load(path.parent / "image_policy.npz") as data:
        given = {key.removeprefix("in/"): torch.from_numpy(data[key]) for key in data.files if "in/" in key}
    unit = {key: value.float() / 255 if value.dtype == torch.uint8 else value for key, value in given.items()}
    return {
        key: scalings[key].normalise(value[:, : design.history].flatten(0, 1).movedim(1, -1)).movedim(-1, 1)
        for key, value in unit.items()
    }


def close(found, recording, bound: float) -> None:
    np.testing.assert_allclose(np.asarray(found), recording, rtol=0, atol=bound)


@pytest.mark.parametrize("path", recorded("schedule*.npz"))
def test_diffusion_schedule_is_the_recorded_one(path):
    assert path is not None, "CI must have the recordings"
    meta = json.loads((path.parent / "meta.json").read_text())
    design, _ = design_of(policy_table(meta, "image_policy"), path)
    bound = fair(path.parent, "schedule")
    with np.load(path) as data:
        close(betas_of(design.diffusion), data["betas"], bound)
        close(Schedule(design.diffusion).remaining, data["alphas_cumprod"], bound)


@pytest.mark.parametrize("path", recorded("*_policy*.npz"))
@torch.inference_mode()
def test_diffusion_features_noise_and_actions_are_the_recorded_ones(path):
    assert path is not None, "CI must have the recordings"
    meta, name = json.loads((path.parent / "meta.json").read_text()), path.stem
    design, net, scalings = network(path, meta, name)
    bounds = {stage: fair(path.parent, f"{name}: {stage}") for stage in ("obs_features", "eps")}
    with np.load(path) as data:
        observations = seen(path, design, scalings)
        close(net.encoder(observations), data["obs_features"], bounds["obs_features"])
        condition = net.condition(observations, [""] * len(data["global_cond"]))
        close(condition, data["global_cond"], bounds["obs_features"])
        actions = torch.from_numpy(data["unet/x"])
        for step in meta["unet_t"]:
            steps = torch.full((len(actions),), step)
            close(net.unet(actions, steps, condition), data[f"unet/eps_t{step}"], bounds["eps"])
        runs = {run: how for run, how in meta["runs"].items() if f"{run}/noise" in data.files}
        assert runs, f"{path} has no run of a sampler"
        for run, how in runs.items():
            used, _ = design_of(policy_table(meta, name, how["scheduler"], how["steps"]), path)
            schedule = Schedule(used.diffusion)
            assert schedule.steps == data[f"{run}/timesteps"].tolist()
            noise = torch.from_numpy(data[f"{run}/noise"])
            assert schedule.draws == len(noise)
            bound = fair(path.parent, f"{name}: actions {how['scheduler']}")
            predicted = scalings["action"].unnormalise(net.denoise(condition, list(noise), schedule))
            close(predicted, data[f"{run}/action_pred"], bound)
            ahead = predicted[:, design.history - 1 :]
            assert ahead.shape[1] == design.ahead
            close(ahead[:, : design.executed], data[f"{run}/action"], bound)
