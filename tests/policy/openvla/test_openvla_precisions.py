"""OpenVLA at every precision that a processor can do: loads, acts, and says what was quantised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.openvla import (
    BRIDGE_OPTIONS,
    LIBERO,
    picture,
    write_card,
    write_checkpoint,
    write_json,
    write_part,
)
from torch import nn

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.errors import DataError, MissingCapabilityError
from vla_bench.policy.base import Policy, act_batch, precision_report
from vla_bench.policy.cards import load_policy
from vla_bench.policy.openvla.checkpoint import Source, load_model
from vla_bench.policy.openvla.heads import DiffusionHead, L1Head, ScalarProjector
from vla_bench.policy.precision import BACKENDS, backend
from vla_bench.types import Observation, PrecisionReport

CPU = torch.device("cpu")
ON_CPU = [name for name, each in BACKENDS.items() if each.scheme is not None and name != "torchao_int4wo"]
# two towers of three blocks, SigLIP's pooling, the projector, Llama's two layers, its head
LAYERS, HIDDEN = 2 * 3 * 4 + 5 + 3 + 2 * 7 + 1, 64
OFT = {**BRIDGE_OPTIONS, "unnorm_key": "libero_spatial_no_noops", "head": "l1", "state": True}


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("bridge"))


@pytest.fixture(scope="module")
def oft(tmp_path_factory, bridge):
    folder = tmp_path_factory.mktemp("oft")
    for file in bridge.iterdir():
        (folder / file.name).symlink_to(file)
    write_json(folder / "dataset_statistics.json", {"libero_spatial_no_noops": LIBERO})
    write_part(folder, "action_head", L1Head(HIDDEN, 7), seed=1)
    write_part(folder, "proprio_projector", ScalarProjector(8, HIDDEN), seed=2)
    return folder


@pytest.fixture
def policy_of(tmp_path, monkeypatch):
    """Write a card with all precisions, and load it at one."""
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(tmp_path))

    def loading(folder, name: str, options=BRIDGE_OPTIONS, **keys) -> Policy:
        path = write_card(tmp_path, "tiny", folder, options, **keys)
        listed = ", ".join(f'"{each}"' for each in BACKENDS)
        path.write_text(path.read_text().replace('"fp32", "bf16"', listed))
        return load_policy("tiny", name)

    return loading


def observation(seed: int) -> Observation:
    proprio = {
        "robot0_eef_pos": np.array([0.1, 0.2, 1.0]),
        "robot0_eef_quat": np.array([0.0, 1.0, 0.0, 0.0]),
        "robot0_gripper_qpos": np.array([0.04, -0.04]),
    }
    return Observation({"agentview": picture(seed)}, proprio, "put the carrot on the plate", 0)


def report_of(policy: Policy) -> PrecisionReport:
    report = precision_report(policy)
    assert report is not None
    return report


@pytest.mark.parametrize("name", ON_CPU)
def test_a_quantised_policy_acts_and_reports(bridge, policy_of, name):
    policy = policy_of(bridge, name)
    actions = policy.act([observation(0)]).actions
    assert actions.shape == (1, 7)
    assert np.isfinite(actions).all()
    np.testing.assert_array_equal(policy.act([observation(0)]).actions, actions)
    report = report_of(policy)
    assert (report.precision, report.layers) == (name, LAYERS - 1)
    assert list(report.kept) == ["language_model.lm_head"]
    assert report.bytes < report_of(policy_of(bridge, "bf16")).bytes


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_what_is_not_quantised_says_so(bridge, policy_of, name):
    report = report_of(policy_of(bridge, name))
    assert (report.layers, report.weights, report.activations) == (0, "", str(backend(name).dtype)[6:])


@pytest.mark.parametrize("name", ON_CPU)
def test_all_linear_layers_but_the_last_are_quantised_and_everything_else_is_as_stored(bridge, name):
    scheme, plain = backend(name).scheme, load_model(Source(bridge), backend("bf16"), CPU)
    model = load_model(Source(bridge), backend(name), CPU)
    assert scheme is not None
    linear = {n for n, layer in plain.named_modules() if isinstance(layer, nn.Linear)}
    taken = {n for n, layer in model.named_modules() if scheme.is_converted(layer)}
    assert linear - taken == {"language_model.lm_head"}
    kept = {n: p for n, p in model.named_parameters() if n.rpartition(".")[0] not in taken}
    for key, parameter in kept.items():
        assert parameter.dtype == torch.bfloat16
        assert torch.equal(parameter, plain.get_parameter(key)), key
    assert any("patch_embed" in key for key in kept)
    for key in taken:
        weight = plain.get_submodule(key).weight.float()
        off = (scheme.dequantised(model.get_submodule(key)).float() - weight).abs().max()
        assert 0 < off <= 0.17 * weight.abs().max(), key


@pytest.mark.parametrize("name", ON_CPU)
def test_ofts_parts_are_never_quantised(oft, policy_of, name):
    policy = policy_of(oft, name, OFT, chunk_predicted=8)
    assert policy.act([observation(0)]).actions.shape == (8, 7)
    kept = set(report_of(policy).kept)
    assert {"language_model.lm_head", "proprio_projector.fc1", "action_head.model.fc2"} <= kept
    assert len(kept) == 1 + 2 + 4


def test_the_diffusion_heads_parts_are_counted(oft, policy_of, tmp_path):
    folder = tmp_path / "diffusion"
    folder.mkdir()
    for file in oft.iterdir():
        if "checkpoint" not in file.name:
            (folder / file.name).symlink_to(file)
    write_part(folder, "action_head", DiffusionHead(HIDDEN, 7), seed=1)
    write_part(folder, "noisy_action_projector", ScalarProjector(1, HIDDEN), seed=2)
    options = {**OFT, "head": "diffusion", "state": False, "diffusion_steps": 2}
    policy = policy_of(folder, "bnb_nf4", options, chunk_predicted=8)
    assert policy.act([observation(0)]).actions.shape == (8, 7)
    assert {"noisy_action_projector.fc1", "action_head.noise_predictor.mlp_resnet.fc1"} <= set(
        report_of(policy).kept
    )


@pytest.mark.parametrize("name", [name for name in ON_CPU if name != "bnb_int8"])
def test_a_batch_gives_the_actions_of_single_calls_where_that_is_promised(oft, policy_of, name):
    policy = policy_of(oft, name, OFT, chunk_predicted=8)
    assert report_of(policy).batch_independent
    seen = [observation(seed) for seed in range(3)]
    for one, chunk in zip(seen, act_batch(policy, [[each] for each in seen]), strict=True):
        # gripper: a sign, which rounding may flip where the head says one half
        np.testing.assert_allclose(chunk.actions[:, :6], policy.act([one]).actions[:, :6], rtol=0, atol=0.03)


def test_what_needs_a_gpu_says_so_before_the_checkpoint_is_looked_for(policy_of, tmp_path):
    with pytest.raises(MissingCapabilityError, match="'torchao_int4wo' needs a CUDA GPU"):
        policy_of(tmp_path / "nowhere", "torchao_int4wo", {**BRIDGE_OPTIONS, "device": "cpu"})


@pytest.mark.parametrize("name", ["bnb_int8", "torchao_fp8"])
def test_a_truncated_checkpoint_is_named_at_any_precision(bridge, tmp_path, name):
    for file in bridge.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"model\.safetensors: is truncated: its header describes \d+ bytes"):
        load_model(Source(tmp_path), backend(name), CPU)
