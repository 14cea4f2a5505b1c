"""Recordings of Diffusion Policy, and small checkpoints in the formats of the originals."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
import types
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from support.goldens import goldens
from vla_bench.policy.diffusion.hydra import Configuration
from vla_bench.policy.diffusion.model import DiffusionNet
from vla_bench.policy.diffusion.official import design_of
from vla_bench.policy.diffusion.pickles import Record
from vla_bench.policy.tensors import StoredTensor
from vla_bench.types import Observation

# models this small lose more by sharing the work than they gain
torch.set_num_threads(1)

# entries of a state that are no weights and that the recordings' rule does not make
_CONSTRUCTED = (
    "normalizer.", "_dummy_variable", "mask_generator", "pos_x", "pos_y", "temperature", "pos_grid",
    "num_batches_tracked",
)  # fmt: skip


def recorded(pattern: str) -> list:
    """One pytest parameter a file of the recordings; a single skipped (in CI: failing) one without them."""
    folder = goldens("diffusion_policy")
    found = sorted(folder.glob(pattern)) if folder else []
    if not found and os.environ.get("CI") != "true":
        reason = f"no recordings diffusion_policy/{pattern}: set VLA_BENCH_GOLDENS to a folder with them"
        return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
    return [
        pytest.param(p, id=str(p.relative_to(folder)) if p and folder else "none") for p in found or [None]
    ]


def fair(folder: Path, check: str) -> float:
    """The largest difference that the recordings' own table allows for `check`; 0 where it says exact."""
    bound = json.loads((folder / "tolerances.json").read_text())["checks"][check]["fair"]
    return 0.0 if bound == "exact" else bound


def by_rule(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weights of the recordings: from the name alone."""
    n = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        made = 1 + np.float32(0.1) * np.abs(n)
    elif len(shape) >= 2:
        made = n / np.float32(np.sqrt(np.prod(shape[1:])))
    elif name.endswith("weight"):
        made = 1 + np.float32(0.1) * n
    else:
        made = np.float32(0.05) * n
    return torch.from_numpy(np.asarray(made, np.float32))


def stored(path: Path, name: str, shape: tuple[int, ...], value: torch.Tensor | None = None) -> StoredTensor:
    """A tensor as a reader would return it; without a value, by the rule."""
    if value is None:
        value = torch.tensor(0) if name.endswith("num_batches_tracked") else by_rule(name, shape)
    return StoredTensor(path, tuple(shape), value.dtype, partial(value.clone))


def stored_state(
    path: Path, shapes: dict[str, list[int]], values: dict[str, np.ndarray]
) -> dict[str, StoredTensor]:
    """A whole state by the rule of the recordings, with what is no weight taken from `values`."""
    return {
        name: stored(path, name, tuple(shape), torch.from_numpy(values[name]) if name in values else None)
        for name, shape in shapes.items()
        if name in values or not any(part in name for part in _CONSTRUCTED[:-1])
    }


# ── small checkpoints ──────────────────────────────────────────────────────────────────────────────────

SIZE_PX = 48
HYBRID = "diffusion_policy.policy.diffusion_unet_hybrid_image_policy.DiffusionUnetHybridImagePolicy"
UNET = {"diffusion_step_embed_dim": 8, "down_dims": [16, 32], "kernel_size": 3, "n_groups": 8}
OBSERVED = {
    "agentview_image": {"shape": [3, SIZE_PX, SIZE_PX], "type": "rgb"},
    "robot0_eef_pos": {"shape": [3]},
    "robot0_eef_quat": {"shape": [4]},
}
OPTIONS = {
    "format": "official", "cameras": {"agentview_image": "agentview"}, "mirrored": False,
    "proprio": {name: [name] for name in ("robot0_eef_pos", "robot0_eef_quat")},
    "actions": "delta_pose", "gripper": "closes", "control_hz": 20,
}  # fmt: skip


def configuration(*, action_size: int = 7, absolute: bool = False, **policy) -> dict:
    """The configuration of a small hybrid policy, with the references that the official ones have."""
    return {
        "horizon": 8, "n_obs_steps": 2, "n_action_steps": 4, "n_latency_steps": 0,
        "shape_meta": "${task.shape_meta}", "training": {"use_ema": True},
        "policy": {
            "_target_": HYBRID,
            "shape_meta": "${shape_meta}", "horizon": "${horizon}", "n_obs_steps": "${n_obs_steps}",
            "n_action_steps": "${eval:'${n_action_steps}+${n_latency_steps}'}",
            "noise_scheduler": {
                "_target_": "diffusers.schedulers.scheduling_ddpm.DDPMScheduler", "num_train_timesteps": 10,
                "beta_schedule": "squaredcos_cap_v2", "clip_sample": True,
            },
            "num_inference_steps": 10, "crop_shape": [40, 40], "obs_encoder_group_norm": True,
            "eval_fixed_crop": True, **UNET, **policy,
        },
        "task": {
            "shape_meta": {"obs": OBSERVED, "action": {"shape": [action_size]}}, "abs_action": absolute,
            "dataset": {"rotation_rep": "rotation_6d"},
        },
    }  # fmt: skip


def hybrid_state(design, scalings: dict[str, tuple[float, float]], seed: int = 0) -> dict[str, torch.Tensor]:
    """The state of a hybrid policy under the official names; windows into few numbers, so it is small."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, like in DiffusionNet.on_meta(design).state_dict().items():
        strides = (13, 5, 3, 1)[-like.ndim :]
        extent = 1 + sum((n - 1) * step for n, step in zip(like.shape, strides, strict=True))
        drawn = torch.randn(extent, generator=generator) * like[0].numel() ** -0.5
        state[_official_name(name, design)] = drawn.as_strided(like.shape, strides)
    sizes = {each.key: each.size for each in design.numbers} | {"action": design.action_size}
    for key, (scale, offset) in scalings.items():
        size = sizes.get(key, 1)
        state[f"normalizer.params_dict.{key}.scale"] = torch.full((size,), scale)
        state[f"normalizer.params_dict.{key}.offset"] = torch.full((size,), offset)
    return {**state, "_dummy_variable": torch.zeros(0)}


def _official_name(name: str, design) -> str:
    if name.startswith("unet."):
        return f"model.{name.removeprefix('unet.')}"
    _, _, camera, part, rest = name.split(".", 4)
    start = f"obs_encoder.obs_nets.{design.cameras[int(camera)].key}."
    if part == "backbone":
        place, _, within = rest.partition(".")
        place = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}[place]
        return f"{start}backbone.nets.{place}.{within}"
    return f"{start}{'pool.nets' if part == 'pool' else 'nets.3'}.{rest}"


SCALINGS = {
    "agentview_image": (2.0, -1.0), "robot0_eef_pos": (1.0, 0.0), "robot0_eef_quat": (1.0, 0.0),
    "action": (1.0, 0.0),
}  # fmt: skip


def write_official(path: Path, table: dict | None = None, **content) -> Path:
    """Write a checkpoint as the official workspace does, with omegaconf's classes and dill's traces."""
    table = table or configuration()
    if "state_dicts" not in content:
        design, _ = design_of(Configuration(_as_record(table)).get("policy"), path)
        states = {name: hybrid_state(design, SCALINGS, i) for i, name in enumerate(("model", "ema_model"))}
        content["state_dicts"] = {**states, "optimizer": {"state": {0: {"step": 3}}, "param_groups": []}}
    with omegaconf() as wrapped:
        payload = {"cfg": wrapped(table), "pickles": {"epoch": b"\x80\x03K\x05."}, **content}
        torch.save(payload, path, pickle_module=pickle, pickle_protocol=2)
    return path


@contextlib.contextmanager
def omegaconf():
    """Modules called like omegaconf's, so that pickles name them; only while something is written."""
    names = {"dictconfig": "DictConfig", "listconfig": "ListConfig", "nodes": "AnyNode"}
    made = {}
    sys.modules["omegaconf"] = types.ModuleType("omegaconf")
    for module, name in names.items():
        kind = type(name, (), {"__module__": f"omegaconf.{module}"})
        sys.modules[f"omegaconf.{module}"] = types.ModuleType(f"omegaconf.{module}")
        setattr(sys.modules[f"omegaconf.{module}"], name, kind)
        made[name] = kind

    def wrapped(value, parent=None):
        kind = {dict: "DictConfig", list: "ListConfig"}.get(type(value), "AnyNode")
        node = made[kind]()
        node._parent = parent
        node._metadata = {"resolver_cache": {("now", "%H"): 1}, "flags": None}
        if isinstance(value, dict):
            node._content = {key: wrapped(each, node) for key, each in value.items()}
        elif isinstance(value, list):
            node._content = [wrapped(each, node) for each in value]
        else:
            node._val = value
        return node

    try:
        yield wrapped
    finally:
        for module in ("omegaconf", *(f"omegaconf.{name}" for name in names)):
            del sys.modules[module]


def _as_record(value) -> Record:
    if isinstance(value, dict):
        return Record("omegaconf.DictConfig", (), {"_content": {k: _as_record(v) for k, v in value.items()}})
    if isinstance(value, list):
        return Record("omegaconf.ListConfig", (), {"_content": [_as_record(each) for each in value]})
    return Record("omegaconf.AnyNode", (), {"_val": value})


def write_card(folder: Path, name: str, checkpoint: Path, options: dict | None = None, **keys) -> Path:
    """Write a policy card for a checkpoint."""
    given = {
        "title": name, "family": "diffusion", "adapter": "vla_bench.policy.diffusion.adapter:build",
        "licence": "MIT", "precisions": ["fp32", "bf16", "bnb_nf4"], "chunk_predicted": 7,
        "chunk_executed": 4, **keys,
    }  # fmt: skip
    used = {**OPTIONS, **({} if options is None else options), "checkpoint": str(checkpoint)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in given.items()] + ["[options]"]
    lines += [f"{key} = {_toml(value)}" for key, value in used.items()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines))
    return path


def _toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


def observation(seed: int, instruction: str = "put it on the plate", time_ns: int = 0) -> Observation:
    """An observation of a made-up scene."""
    drawn = np.random.default_rng(seed)
    images = {
        name: drawn.integers(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
        for name in ("agentview", "robot0_eye_in_hand")
    }
    proprio = {
        "robot0_eef_pos": drawn.uniform(-1, 1, 3),
        "robot0_eef_quat": np.array([0.0, np.sin(0.3), 0.0, np.cos(0.3)]),
        "robot0_gripper_qpos": np.array([0.04, -0.04]),
    }
    return Observation(images, proprio, instruction, time_ns)
