"""Official checkpoints: a `.ckpt` file with configuration, weights, their moving average and the scaling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, PositiveInt

from vla_bench.config import FileModel, parse
from vla_bench.errors import ConventionError, DataError, MissingCapabilityError
from vla_bench.policy.diffusion.archive import Archive, read_archive
from vla_bench.policy.diffusion.checkpoint import Trained, layer_name, renamed
from vla_bench.policy.diffusion.design import (
    Backbone,
    Design,
    Size,
    Vision,
)
from vla_bench.policy.diffusion.hydra import Configuration
from vla_bench.policy.diffusion.pickles import RefusedError
from vla_bench.policy.diffusion.scaling import Affine
from vla_bench.policy.tensors import Stored, StoredTensor

_POLICIES = "diffusion_policy.policy."
_NORMALISER = "normalizer.params_dict."


class _Feature(FileModel):
    shape: tuple[PositiveInt, ...] = Field(min_length=1, max_length=3)
    type: Literal["rgb", "low_dim"] = "low_dim"
    horizon: int | None = None


class _Action(FileModel):
    shape: tuple[PositiveInt]
    horizon: int | None = None


class _ShapeMeta(FileModel):
    obs: dict[str, _Feature] = Field(min_length=1)
    action: _Action


class _Scheduler(FileModel):
    target: Literal[
        "diffusers.schedulers.scheduling_ddpm.DDPMScheduler",
        "diffusers.schedulers.scheduling_ddim.DDIMScheduler",
    ] = Field(alias="_target_")
    num_train_timesteps: PositiveInt = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    beta_schedule: Literal["squaredcos_cap_v2", "linear", "scaled_linear"] = "linear"
    variance_type: Literal["fixed_small"] = "fixed_small"
    clip_sample: bool = True
    prediction_type: Literal["epsilon", "sample"] = "epsilon"
    set_alpha_to_one: Literal[True] = True
    steps_offset: Literal[0] = 0


class _Policy(FileModel):
    """What all policies of the official code have in common; keys that would change them raise."""

    target: str = Field(alias="_target_")
    shape_meta: _ShapeMeta
    noise_scheduler: _Scheduler
    horizon: PositiveInt
    n_action_steps: PositiveInt
    n_obs_steps: PositiveInt
    num_inference_steps: PositiveInt | None = None
    obs_as_global_cond: Literal[True] = True
    diffusion_step_embed_dim: PositiveInt = 256
    down_dims: tuple[PositiveInt, ...] = (256, 512, 1024)
    kernel_size: PositiveInt = 5
    n_groups: PositiveInt = 8
    cond_predict_scale: bool = True


def _nothing(value: Any) -> Any:
    return None if value in ("null", "") else value


Sizes = Annotated[Size | dict[str, Size] | None, BeforeValidator(_nothing)]


class _Hybrid(_Policy):
    crop_shape: Size | None = (76, 76)
    obs_encoder_group_norm: bool = False
    eval_fixed_crop: bool = False


class _Backbone(FileModel):
    target: Literal["diffusion_policy.model.vision.model_getter.get_resnet"] = Field(alias="_target_")
    name: Backbone
    weights: Any = None


class _Encoder(FileModel):
    target: Literal["diffusion_policy.model.vision.multi_image_obs_encoder.MultiImageObsEncoder"] = Field(
        alias="_target_"
    )
    shape_meta: Any = None
    rgb_model: _Backbone
    resize_shape: Sizes = None
    crop_shape: Sizes = None
    random_crop: bool = True
    use_group_norm: bool = False
    share_rgb_model: bool = False
    imagenet_norm: bool = False


class _Image(_Policy):
    obs_encoder: _Encoder


def read_official(path: Path) -> Trained:
    """Read an official checkpoint, without its weights' numbers.

    Raises:
        MissingDataError: There is no such file.
        DataError: It cannot be used, or holds something that no checkpoint needs.
        MissingCapabilityError: It is of a kind that is not implemented.
        ConventionError: Its parts do not fit together.
    """
    archive = read_archive(path)
    content = archive.content
    if not isinstance(content, dict) or not {"cfg", "state_dicts"} <= set(content):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise DataError(
            path, f"is no checkpoint of Diffusion Policy: expected cfg and state_dicts, found {found}"
        )
    try:
        configuration = Configuration(content["cfg"])
        design, rename = design_of(configuration.get("policy"), path)
        averaged = configuration.get("training.use_ema") is True
        says = _says(configuration)
    except RefusedError as error:
        raise DataError(path, f"refused, {error}") from error
    stored = _state(archive, content["state_dicts"], "ema_model" if averaged else "model")
    return Trained(path, design, renamed(stored, rename), scalings_of(stored, path), says)


def design_of(table: Any, path: Path) -> tuple[Design, Callable[[str], str | None]]:
    """Return the design that a configuration's `policy` describes, and our names of its weights.

    Raises:
        MissingCapabilityError: It is of a kind that is not implemented.
        DataError: It cannot be used.
    """
    target = table.get("_target_") if isinstance(table, dict) else None
    kind = str(target).removeprefix(_POLICIES)
    if not isinstance(table, dict) or kind not in _KINDS:
        known = " and ".join(name.rpartition(".")[2] for name in _KINDS)
        raise MissingCapabilityError(
            f"{path}: its policy is {kind.rpartition('.')[2]!r}; of the official ones {known} are implemented"
        )
    return _KINDS[kind](table, path)


def _image(table: dict[str, Any], path: Path) -> tuple[Design, Callable[[str], str | None]]:
    """The image policy: all of a ResNet, features of sorted cameras before those of sorted vectors."""
    policy = parse(_Image, table, path, at="cfg.policy")
    encoder, features = policy.obs_encoder, policy.shape_meta.obs
    ordered = [
        (key, features[key]) for key in sorted(features, key=lambda key: (features[key].type != "rgb", key))
    ]
    # the original forgets its crop where that is not random
    crop = encoder.crop_shape if encoder.random_crop else None
    vision = Vision(
        backbone=encoder.rgb_model.name, shared=encoder.share_rgb_model, imagenet=encoder.imagenet_norm,
        norm="group" if encoder.use_group_norm and not encoder.share_rgb_model else "batch",
        pool="mean", features=None,
    )  # fmt: skip
    design = _built(path, policy, ordered, vision, encoder.resize_shape, crop)
    keys = ["rgb"] if encoder.share_rgb_model else [camera.key for camera in design.cameras]
    places = {
        f"obs_encoder.key_model_map.{key}.": f"encoder.cameras.{i}.backbone." for i, key in enumerate(keys)
    }
    return design, lambda name: _placed(name, places)


def _hybrid(table: dict[str, Any], path: Path) -> tuple[Design, Callable[[str], str | None]]:
    """The policy with robomimic's encoder: features in the order of the configuration."""
    policy = parse(_Hybrid, table, path, at="cfg.policy")
    if policy.crop_shape is not None and not policy.eval_fixed_crop:
        raise MissingCapabilityError(
            f"{path}: it crops pictures at random even when it acts (eval_fixed_crop is not true); "
            "only fixed crops are implemented"
        )
    vision = Vision(norm="group" if policy.obs_encoder_group_norm else "batch")
    design = _built(path, policy, list(policy.shape_meta.obs.items()), vision, None, policy.crop_shape)
    places = {}
    for i, camera in enumerate(design.cameras):
        theirs, ours = f"obs_encoder.obs_nets.{camera.key}.", f"encoder.cameras.{i}."
        # everything but the last layer is there twice
        places |= {f"{theirs}backbone.nets.": f"{ours}backbone.", f"{theirs}pool.nets.": f"{ours}pool.",
                   f"{theirs}nets.3.": f"{ours}out."}  # fmt: skip
    return design, lambda name: _placed(name, places)


_KINDS = {
    "diffusion_unet_image_policy.DiffusionUnetImagePolicy": _image,
    "diffusion_unet_hybrid_image_policy.DiffusionUnetHybridImagePolicy": _hybrid,
}


def _built(
    path: Path,
    policy: _Policy,
    features: list[tuple[str, _Feature]],
    vision: Vision,
    resize: Sizes,
    crop: Sizes,
) -> Design:
    def of(sizes: Sizes, key: str) -> Size | None:
        return sizes.get(key) if isinstance(sizes, dict) else sizes

    scheduler = policy.noise_scheduler
    inputs = [
        {
            "kind": "camera",
            "key": key,
            "size": feature.shape[1:],
            "resize": of(resize, key),
            "crop": of(crop, key),
        }
        if feature.type == "rgb"
        else {"key": key, "size": feature.shape[0]}
        for key, feature in features
    ]
    table = {
        "inputs": inputs,
        "vision": vision,
        "network": {
            "step_size": policy.diffusion_step_embed_dim, "widths": policy.down_dims,
            "kernel": policy.kernel_size, "groups": policy.n_groups, "scales": policy.cond_predict_scale,
        },
        "diffusion": {
            "sampler": "ddim" if scheduler.target.endswith("DDIMScheduler") else "ddpm_single",
            "trained": scheduler.num_train_timesteps,
            "steps": policy.num_inference_steps or scheduler.num_train_timesteps,
            "betas": scheduler.beta_schedule, "first": scheduler.beta_start, "last": scheduler.beta_end,
            "predicts": scheduler.prediction_type, "clip": 1.0 if scheduler.clip_sample else None,
        },
        "action_size": policy.shape_meta.action.shape[0], "history": policy.n_obs_steps,
        "horizon": policy.horizon, "executed": policy.n_action_steps,
    }  # fmt: skip
    return parse(Design, table, path)


def _placed(name: str, places: Mapping[str, str]) -> str | None:
    """Our name of an official weight; None of what is no weight or is there a second time."""
    if name.startswith("model."):
        return f"unet.{name.removeprefix('model.')}"
    for theirs, ours in places.items():
        if name.startswith(theirs):
            rest = name.removeprefix(theirs)
            return ours + (layer_name(rest) if ours.endswith("backbone.") else rest)
    if name.startswith(("normalizer.", "mask_generator.")) or name.endswith("_dummy_variable"):
        return None
    twice = name.startswith("obs_encoder.obs_nets.")
    return None if twice and any(part in name for part in (".nets.0.", ".nets.1.", ".pool.")) else name


def _state(archive: Archive, states: Any, which: str) -> dict[str, StoredTensor]:
    if not isinstance(states, dict) or which not in states:
        found = ", ".join(map(str, states)) if isinstance(states, dict) else type(states).__name__
        raise DataError(archive.path, f"has no weights {which!r} in its state_dicts; found {found}")
    return archive.tensors(states[which], f"state_dicts.{which}")


def scalings_of(stored: Stored, path: Path) -> dict[str, Affine]:
    """Return the scaling of every key, which is saved with the weights.

    Raises:
        DataError: A part of it is no vector.
        ConventionError: A part of it is missing.
    """
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in stored.items():
        if not name.startswith(_NORMALISER) or ".input_stats." in name:
            continue
        key, _, part = name.removeprefix(_NORMALISER).rpartition(".")
        if tensor.shape == () or len(tensor.shape) != 1 or tensor.shape[0] > 4096:
            raise DataError(path, f"{name!r} has shape {tensor.shape}, expected a vector")
        found.setdefault(key, {})[part] = tensor.read().float()
    if broken := [key for key, each in found.items() if set(each) != {"scale", "offset"}]:
        raise ConventionError(f"{path}: the normalisation of {broken[0]!r} lacks its scale or its offset")
    return {key: Affine(each["scale"], each["offset"]) for key, each in found.items()}


def _says(configuration: Configuration) -> dict[str, object]:
    """What it tells about actions: robomimic's are absolute poses, or commands of its controller."""
    absolute = configuration.get("task.abs_action")
    rotation = configuration.get("task.dataset.rotation_rep")
    if absolute is True:
        return {"actions": "absolute_rot6d"} if rotation == "rotation_6d" else {}
    return {"actions": "delta_pose"} if absolute is False else {}
