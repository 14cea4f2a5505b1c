"""Formats of checkpoints: what is read of each, and what is refused with which words."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.diffusion import OPTIONS, SIZE_PX, configuration, observation, write_card, write_official

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.errors import ConventionError, DataError, MissingCapabilityError, MissingDataError
from vla_bench.policy.cards import load_policy
from vla_bench.policy.diffusion.archive import read_archive
from vla_bench.policy.diffusion.design import Design
from vla_bench.policy.diffusion.lerobot import read_lerobot
from vla_bench.policy.diffusion.model import DiffusionNet
from vla_bench.policy.diffusion.native import read_native, save
from vla_bench.policy.diffusion.official import read_official
from vla_bench.policy.diffusion.scaling import Affine, Range, Standard

LEROBOT = {
    "type": "diffusion", "n_obs_steps": 2, "horizon": 8, "n_action_steps": 4,
    "input_features": {
        "observation.image": {"type": "VISUAL", "shape": [3, SIZE_PX, SIZE_PX]},
        "observation.state": {"type": "STATE", "shape": [8]},
    },
    "output_features": {"action": {"type": "ACTION", "shape": [7]}},
    "normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"},
    "vision_backbone": "resnet18", "crop_shape": [40, 40], "use_group_norm": True,
    "spatial_softmax_num_keypoints": 4, "use_separate_rgb_encoder_per_camera": False, "down_dims": [16, 32],
    "kernel_size": 3, "n_groups": 8, "diffusion_step_embed_dim": 8, "use_film_scale_modulation": True,
    "noise_scheduler_type": "DDIM", "num_train_timesteps": 10, "beta_schedule": "squaredcos_cap_v2",
    "beta_start": 1e-4, "beta_end": 0.02, "prediction_type": "epsilon", "clip_sample": True,
    "num_inference_steps": 5, "optimizer_lr": 1e-4, "push_to_hub": True,
}  # fmt: skip
STATISTICS = {
    "observation.image.mean": torch.full((3, 1, 1), 0.5), "observation.image.std": torch.full((3, 1, 1), 0.2),
    "observation.state.min": torch.tensor([-1.0] * 7 + [0.3]),
    "observation.state.max": torch.tensor([1.0] * 7 + [0.3]),
    "action.min": torch.full((7,), -1.0), "action.max": torch.full((7,), 1.0),
}  # fmt: skip
THEIRS = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}


def drawn(design: Design, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights in 16 bits."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(like.shape, generator=generator) * max(like[0].numel(), 1) ** -0.5).half()
        for name, like in DiffusionNet.on_meta(design).state_dict().items()
    }


def lerobot_name(name: str) -> str:
    """LeRobot's name of a weight of ours, with one encoder for all cameras."""
    if name.startswith("unet."):
        name = name.replace(".blocks.0.block.", ".conv1.block.").replace(".blocks.1.block.", ".conv2.block.")
        return f"diffusion.{name}".replace(".2.conv.", ".2.")
    rest = name.removeprefix("encoder.cameras.0.")
    part, _, within = rest.partition(".")
    if part == "backbone":
        place, _, within = within.partition(".")
        return f"diffusion.rgb_encoder.backbone.{THEIRS[place]}.{within}"
    return f"diffusion.rgb_encoder.{'pool.nets' if part == 'pool' else part}.{within}"


def write_lerobot(folder, *, old: bool = False, **changes):
    """A folder as LeRobot saves it; older ones keep the statistics with the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**LEROBOT, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    steps = [
        {"registry_name": "to_batch_processor", "config": {}},
        {"registry_name": "normalizer_processor", "config": {}, "state_file": "statistics.safetensors"},
    ]
    weights, statistics = {}, STATISTICS
    if old:
        weights = {
            f"{'normalize_inputs' if key.startswith('obs') else 'unnormalize_outputs'}"
            f".buffer_{key.rpartition('.')[0].replace('.', '_')}.{key.rpartition('.')[2]}": value
            for key, value in statistics.items()
        }
    else:
        (folder / "policy_preprocessor.json").write_text(json.dumps({"steps": steps}))
        save_file(statistics, folder / "statistics.safetensors")
    save_file({"none": torch.zeros(1)}, folder / "model.safetensors")
    if old:
        save_file(weights, folder / "model.safetensors")
    try:
        design = read_lerobot(folder).design
    except Exception:
        return folder
    weights |= {lerobot_name(name): value for name, value in drawn(design).items()}
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture
def cards(tmp_path, monkeypatch):
    folder = tmp_path / "cards"
    folder.mkdir()
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(folder))
    return folder


# ── official ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_moving_average_is_taken_where_training_made_one(tmp_path):
    tables = {"averaged": configuration(), "plain": configuration() | {"training": {"use_ema": False}}}
    found = {}
    for name, table in tables.items():
        path = write_official(tmp_path / f"{name}.ckpt", table)
        states = read_archive(path).content["state_dicts"]
        used = "ema_model" if name == "averaged" else "model"
        expected = read_archive(path).tensors(states[used], used)["model.final_conv.1.bias"].read()
        found[name] = read_official(path).weights["unet.final_conv.1.bias"].read()
        assert torch.equal(found[name], expected)
    assert not torch.equal(found["averaged"], found["plain"])


def changed(table: dict, place: str, value) -> dict:
    """A configuration with another value at `a.b.c`."""
    *way, last = place.split(".")
    inner = table
    for key in way:
        inner = inner[key]
    inner[last] = value
    return table


@pytest.mark.parametrize(
    ("place", "value", "error", "message"),
    [
        ("policy._target_", "diffusion_policy.policy.diffusion_transformer_hybrid_image_policy.T",
         MissingCapabilityError, "its policy is 'T'; of the official ones DiffusionUnetImagePolicy and"),
        ("policy.eval_fixed_crop", False, MissingCapabilityError, "crops pictures at random even when"),
        ("policy.obs_as_global_cond", False, DataError, r"cfg\.policy\.obs_as_global_cond = False"),
        ("policy.predict_epsilon", True, DataError, r"unknown key 'cfg\.policy\.predict_epsilon'"),
        ("policy.crop_shape", [80, 80], DataError, r"a crop of \(80, 80\) does not fit into a picture of \("),
        ("policy.down_dims", [16, 30], DataError, "a width of 30 is not divisible into 8 groups"),
        ("horizon", 7, DataError, "a horizon of 7 cannot be halved 1 times"),
        ("n_action_steps", 8, DataError, "8 actions are executed, but of a horizon of 8 only 7 lie ahead"),
        ("policy.num_inference_steps", 11, DataError, "11 steps of a schedule of 10"),
    ],
)  # fmt: skip
def test_other_architectures_are_refused_by_what_differs(tmp_path, place, value, error, message):
    path = tmp_path / "other.ckpt"
    table = changed(configuration(), place, value)
    write_official(path, table, state_dicts={"model": {}, "ema_model": {}})
    with pytest.raises(error, match=message):
        read_official(path)


def test_a_checkpoint_without_its_parts_says_which(tmp_path):
    path = tmp_path / "less.ckpt"
    write_official(path, state_dicts={"model": {}})
    with pytest.raises(DataError, match="has no weights 'ema_model' in its state_dicts; found model"):
        read_official(path)
    whole = read_archive(write_official(tmp_path / "whole.ckpt")).content["state_dicts"]["ema_model"]
    kept = {name: torch.zeros(1) for name in whole if ".agentview_image." not in name or "obs_nets" in name}
    write_official(path, state_dicts={"ema_model": kept})
    with pytest.raises(
        ConventionError, match="no normalisation for 'agentview_image'; it has robot0_eef_pos"
    ):
        read_official(path)
    lone = {"normalizer.params_dict.action.scale": torch.zeros(7)}
    write_official(path, state_dicts={"ema_model": lone})
    with pytest.raises(ConventionError, match="normalisation of 'action' lacks its scale or its offset"):
        read_official(path)
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="expected cfg and state_dicts, found a"):
        read_official(path)


def test_weights_of_another_size_are_refused_before_any_is_read(tmp_path, cards):
    path = write_official(tmp_path / "narrow.ckpt")
    states = {"ema_model": read_state(path)}
    wide = changed(configuration(), "policy.down_dims", [16, 64])
    write_official(tmp_path / "wide.ckpt", wide, state_dicts=states)
    write_card(cards, "wide", tmp_path / "wide.ckpt")
    with pytest.raises(DataError, match=r"tensor 'unet\..*': expected \(.*64.*\), found \(.*32.*\)"):
        load_policy("wide")


def read_state(path) -> dict[str, torch.Tensor]:
    archive = read_archive(path)
    tensors = archive.tensors(archive.content["state_dicts"]["ema_model"], "ema_model")
    return {name: each.read()[:1].expand(each.shape) if each.shape != (0,) else each.read()
            for name, each in tensors.items()}  # fmt: skip


# ── LeRobot ────────────────────────────────────────────────────────────────────────────────────────────

LEROBOT_OPTIONS = {
    **OPTIONS, "format": "lerobot", "cameras": {"observation.image": "agentview"}, "mirrored": True,
    "proprio": {"observation.state": ["robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]},
    "rotation_vectors": ["robot0_eef_quat"],
}  # fmt: skip


@pytest.mark.parametrize("old", [False, True])
def test_lerobot_folders_act_with_new_and_old_statistics(tmp_path, cards, old):
    folder = write_lerobot(tmp_path / "lerobot", old=old)
    trained = read_lerobot(folder)
    assert isinstance(trained.scalings["observation.image"], Standard)
    assert isinstance(trained.scalings["action"], Range)
    write_card(cards, "theirs", folder, LEROBOT_OPTIONS)
    policy = load_policy("theirs")
    seen = [observation(0), observation(1)]
    chunk = policy.act(seen)
    assert chunk.actions.shape == (7, 7)
    assert np.isfinite(chunk.actions).all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"type": "act"}, MissingCapabilityError, "its policy is 'act'; of LeRobot's policies 'diffusion'"),
        ({"vision_backbone": "vit"}, DataError, "vision_backbone = 'vit'"),
        ({"horizon": None}, DataError, "horizon = None"),
        (
            {"normalization_mapping": {"VISUAL": "QUANTILES"}},
            DataError,
            "needs 'q01'; its statistics are mean, std",
        ),
    ],
)
def test_lerobot_folders_of_other_kinds_are_refused(tmp_path, changes, error, message):
    folder = write_lerobot(tmp_path / "lerobot", **changes)
    with pytest.raises(error, match=message):
        read_lerobot(folder)


def test_lerobot_processors_with_other_steps_are_refused(tmp_path):
    folder = write_lerobot(tmp_path / "lerobot", type="act")
    (folder / "config.json").write_text(json.dumps(LEROBOT))
    path = folder / "policy_preprocessor.json"
    for steps, message in [
        ([{"registry_name": "crop_processor"}], "step 'crop_processor' is not implemented"),
        ([{"registry_name": "normalizer_processor", "state_file": "../a.safetensors"}], r"names '\.\./a"),
        (
            [{"registry_name": "rename_observations_processor", "config": {"rename_map": {"a": "b"}}}],
            "renames obs",
        ),
    ]:
        path.write_text(json.dumps({"steps": steps}))
        with pytest.raises((MissingCapabilityError, DataError), match=message):
            read_lerobot(folder)
    path.unlink()
    with pytest.raises(
        MissingDataError, match=r"no such file, and model\.safetensors has no statistics either"
    ):
        read_lerobot(folder)


def test_a_constant_number_stays_finite():
    scaling = Range.between(torch.tensor([0.3, -1.0]), torch.tensor([0.3, 1.0]), 1e-8)
    found = scaling.normalise(torch.tensor([0.3, 0.5]))
    torch.testing.assert_close(found, torch.tensor([-1.0, 0.5]))
    torch.testing.assert_close(scaling.unnormalise(found), torch.tensor([0.3, 0.5]))


# ── our own ────────────────────────────────────────────────────────────────────────────────────────────

OURS = Design.model_validate({
    "inputs": [
        {"kind": "camera", "key": "agentview", "size": [SIZE_PX, SIZE_PX], "crop": [40, 40]},
        {"key": "state", "size": 3},
    ],
    "vision": {"keypoints": 4, "features": 8},
    "network": {"step_size": 8, "widths": [16, 32], "kernel": 3},
    "diffusion": {"sampler": "ddim", "trained": 10, "steps": 3},
    "language": {"encoder": "words", "size": 6, "buckets": 64},
    "action_size": 7, "horizon": 8, "executed": 4,
})  # fmt: skip
OUR_OPTIONS = {
    **OPTIONS, "format": "vla_bench", "cameras": {"agentview": "agentview"},
    "proprio": {"state": ["robot0_eef_pos"]},
}  # fmt: skip


def our_scalings() -> dict[str, Affine]:
    sizes = {"agentview": 1, "state": 3, "action": 7}
    return {key: Affine(torch.full((size,), 2.0), torch.full((size,), -1.0)) for key, size in sizes.items()}


def test_what_was_trained_here_is_read_as_it_was_saved(tmp_path, cards):
    weights = drawn(OURS)
    save(tmp_path / "ours", OURS, weights, our_scalings())
    trained = read_native(tmp_path / "ours")
    assert trained.design == OURS
    assert all(torch.equal(trained.weights[name].read(), value) for name, value in weights.items())
    write_card(cards, "ours", tmp_path / "ours", OUR_OPTIONS)
    policy = load_policy("ours")
    seen = [observation(0), observation(1)]
    first = policy.act(seen).actions
    told = policy.act([observation(0, "push it away"), observation(1, "push it away")]).actions
    assert not np.array_equal(told, first), "the instruction decides"
    np.testing.assert_array_equal(policy.act(seen).actions, first)


def test_a_folder_of_ours_without_its_scaling_is_refused(tmp_path):
    save(tmp_path / "ours", OURS, {}, {"action": our_scalings()["action"]})
    with pytest.raises(ConventionError, match="no normalisation for 'agentview'; it has action"):
        read_native(tmp_path / "ours")
    (tmp_path / "ours/design.json").write_text(OURS.model_dump_json().replace('"horizon"', '"horizont"'))
    with pytest.raises(DataError, match="unknown key 'horizont'; did you mean 'horizon'"):
        read_native(tmp_path / "ours")
