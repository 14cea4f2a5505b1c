"""LeRobot's folders: `config.json`, `model.safetensors` and processors with the statistics.

Older ones keep the statistics among the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt

from vla_bench.config import FileModel, parse
from vla_bench.errors import DataError, MissingCapabilityError, MissingDataError
from vla_bench.policy.diffusion.checkpoint import Trained, layer_name, renamed
from vla_bench.policy.diffusion.design import Backbone, Design, Size
from vla_bench.policy.diffusion.scaling import Identity, Range, Scaling, Standard
from vla_bench.policy.tensors import Stored, read_json, safetensors_of

CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "policy_preprocessor.json"
_OLD_STATISTICS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
_EPSILON = 1e-8
Mode = Literal["MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "IDENTITY"]
_BOUNDS = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}


class _Feature(FileModel):
    type: Literal["VISUAL", "STATE", "ENV", "ACTION"]
    shape: tuple[PositiveInt, ...] = Field(min_length=1, max_length=3)


class _Outputs(FileModel):
    action: _Feature


class _Config(FileModel):
    """The part of LeRobot's configuration that changes actions."""

    n_obs_steps: PositiveInt
    horizon: PositiveInt
    n_action_steps: PositiveInt
    input_features: dict[str, _Feature] = Field(min_length=1)
    output_features: _Outputs
    normalization_mapping: dict[str, Mode]
    vision_backbone: Backbone
    resize_shape: Size | None = None
    crop_ratio: float = Field(default=1.0, gt=0, le=1)
    crop_shape: Size | None
    use_group_norm: bool
    spatial_softmax_num_keypoints: PositiveInt
    use_separate_rgb_encoder_per_camera: bool
    down_dims: tuple[PositiveInt, ...]
    kernel_size: PositiveInt
    n_groups: PositiveInt
    diffusion_step_embed_dim: PositiveInt
    use_film_scale_modulation: bool
    noise_scheduler_type: Literal["DDPM", "DDIM"]
    num_train_timesteps: PositiveInt
    beta_schedule: Literal["squaredcos_cap_v2", "linear", "scaled_linear"]
    beta_start: float
    beta_end: float
    prediction_type: Literal["epsilon", "sample"]
    clip_sample: bool
    clip_sample_range: float = 1.0
    num_inference_steps: PositiveInt | None = None

    @property
    def crop(self) -> Size | None:
        """What is really cut out: after a resize only the ratio counts."""
        if self.resize_shape is None:
            return self.crop_shape
        height, width = (int(side * self.crop_ratio) for side in self.resize_shape)
        return (height, width) if self.crop_ratio < 1 else None


def read_lerobot(folder: Path) -> Trained:
    """Read a folder that LeRobot saved, without its weights' numbers.

    Raises:
        MissingDataError: A file is not there.
        DataError: A file cannot be used.
        MissingCapabilityError: It is of another kind of policy.
        ConventionError: Its parts do not fit together.
    """
    return assembled(folder, lambda: safetensors_of(folder / WEIGHTS))


def assembled(folder: Path, weights: Callable[[], Stored]) -> Trained:
    """Return the policy of a folder with weights from anywhere; raises as `read_lerobot`."""
    table = read_json(folder / CONFIG)
    kind = table.get("type") if isinstance(table, dict) else None
    if kind != "diffusion":
        raise MissingCapabilityError(
            f"{folder / CONFIG}: its policy is {kind!r}; of LeRobot's policies 'diffusion' is implemented"
        )
    # the rest is about training and places
    config = parse(
        _Config, {key: table[key] for key in _Config.model_fields if key in table}, folder / CONFIG
    )
    design = _design(config, folder / CONFIG)
    stored = weights()
    scalings = _scalings(folder, config, stored)
    return Trained(folder, design, renamed(stored, _renamer(config)), scalings, {})


def _design(config: _Config, path: Path) -> Design:
    features = config.input_features
    # the state comes first, then the pictures, then what a simulation tells of itself
    rank = {"STATE": 0, "VISUAL": 1, "ENV": 2}
    ordered = sorted(
        (key for key in features if features[key].type in rank), key=lambda key: rank[features[key].type]
    )
    inputs = [
        {"kind": "camera", "key": key, "size": features[key].shape[1:], "resize": config.resize_shape,
         "crop": config.crop}
        if features[key].type == "VISUAL"
        else {"key": key, "size": features[key].shape[0]}
        for key in ordered
    ]  # fmt: skip
    table = {
        "inputs": inputs,
        "vision": {
            "backbone": config.vision_backbone, "norm": "group" if config.use_group_norm else "batch",
            "shared": not config.use_separate_rgb_encoder_per_camera, "pool": "keypoints",
            "keypoints": config.spatial_softmax_num_keypoints,
            "features": 2 * config.spatial_softmax_num_keypoints,
        },
        "network": {
            "step_size": config.diffusion_step_embed_dim, "widths": config.down_dims,
            "kernel": config.kernel_size, "groups": config.n_groups,
            "scales": config.use_film_scale_modulation,
        },
        "diffusion": {
            "sampler": "ddim" if config.noise_scheduler_type == "DDIM" else "ddpm",
            "trained": config.num_train_timesteps,
            "steps": config.num_inference_steps or config.num_train_timesteps,
            "betas": config.beta_schedule, "first": config.beta_start, "last": config.beta_end,
            "predicts": config.prediction_type,
            "clip": config.clip_sample_range if config.clip_sample else None,
        },
        "action_size": config.output_features.action.shape[0], "history": config.n_obs_steps,
        "horizon": config.horizon, "executed": config.n_action_steps,
    }  # fmt: skip
    return parse(Design, table, path)


def _renamer(config: _Config) -> Callable[[str], str | None]:
    separate = config.use_separate_rgb_encoder_per_camera

    def rename(name: str) -> str | None:
        if name.startswith(_OLD_STATISTICS) or name.endswith(".pool.pos_grid"):
            return None
        if name.startswith("diffusion.unet."):
            return "unet." + _unet_name(name.removeprefix("diffusion.unet."))
        if not name.startswith("diffusion.rgb_encoder."):
            return name
        rest = name.removeprefix("diffusion.rgb_encoder.")
        camera, rest = rest.split(".", 1) if separate else ("0", rest)
        part, _, within = rest.partition(".")
        within = layer_name(within) if part == "backbone" else within.removeprefix("nets.")
        return f"encoder.cameras.{camera}.{part}.{within}"

    return rename


def _unet_name(name: str) -> str:
    """Blocks are called `conv1` and `conv2`; what changes the number of instants is a bare convolution."""
    name = name.replace(".conv1.block.", ".blocks.0.block.").replace(".conv2.block.", ".blocks.1.block.")
    parts = name.split(".")
    if parts[0] in ("down_modules", "up_modules") and parts[2] == "2":
        parts.insert(3, "conv")
    return ".".join(parts)


def _scalings(folder: Path, config: _Config, stored: Stored) -> dict[str, Scaling]:
    features = {**config.input_features, "action": config.output_features.action}
    statistics = _statistics(folder, stored, features)
    found: dict[str, Scaling] = {}
    for key, feature in features.items():
        mode, table = config.normalization_mapping.get(feature.type, "IDENTITY"), statistics.get(key)
        if mode == "IDENTITY":
            found[key] = Identity()
        elif table is not None:
            found[key] = _scaling(folder, key, mode, table)
    return found


def _scaling(folder: Path, key: str, mode: str, table: Mapping[str, torch.Tensor]) -> Scaling:
    names = ("mean", "std") if mode == "MEAN_STD" else _BOUNDS[mode]
    if missing := [name for name in names if name not in table]:
        have = ", ".join(sorted(table)) or "none"
        raise DataError(
            folder, f"{key!r} is scaled by {mode}, which needs {missing[0]!r}; its statistics are {have}"
        )
    first, second = (table[name].float() for name in names)
    if mode == "MEAN_STD":
        return Standard(first, second, _EPSILON)
    return Range.between(first, second, _EPSILON)


def _statistics(
    folder: Path, stored: Stored, features: Mapping[str, _Feature]
) -> dict[str, dict[str, torch.Tensor]]:
    """Key → statistic → numbers."""
    if (folder / PREPROCESSOR).is_file():
        named = {name.rpartition("."): tensor for name, tensor in _preprocessor(folder).items()}
        pairs = {(key, statistic): tensor for (key, _, statistic), tensor in named.items()}
    else:
        pairs = {}
        for key in features:
            for group in _OLD_STATISTICS:
                start = f"{group}buffer_{key.replace('.', '_')}."
                pairs |= {(key, name.removeprefix(start)): tensor for name, tensor in stored.items()
                          if name.startswith(start)}  # fmt: skip
        if not pairs:
            raise MissingDataError(
                f"{folder / PREPROCESSOR}: no such file, and {WEIGHTS} has no statistics either"
            )
    found: dict[str, dict[str, torch.Tensor]] = {}
    for (key, statistic), tensor in pairs.items():
        if key in features and torch.Size(tensor.shape).numel() <= 4096:
            found.setdefault(key, {})[statistic] = tensor.read()
    return found


def _preprocessor(folder: Path) -> Stored:
    """The file of statistics that the preprocessor names; renamed keys would need its other steps."""
    table = read_json(folder / PREPROCESSOR)
    steps = table.get("steps") if isinstance(table, dict) else None
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise DataError(folder / PREPROCESSOR, "has no list of steps")
    by_name: dict[Any, dict[str, Any]] = {step.get("registry_name"): step for step in steps}
    if strange := set(by_name) - _STEPS:
        raise MissingCapabilityError(
            f"{folder / PREPROCESSOR}: its step {sorted(map(str, strange))[0]!r} is not implemented; "
            f"known: {', '.join(sorted(_STEPS))}"
        )
    renames = by_name.get("rename_observations_processor", {}).get("config", {}).get("rename_map")
    if renames:
        raise MissingCapabilityError(
            f"{folder / PREPROCESSOR}: renames observations, which is not implemented"
        )
    file = by_name.get("normalizer_processor", {}).get("state_file")
    if not isinstance(file, str) or Path(file).name != file:
        raise DataError(folder / PREPROCESSOR, f"names {file!r} as its file of statistics")
    return safetensors_of(folder / file)


_STEPS = {
    "rename_observations_processor", "to_batch_processor", "device_processor", "normalizer_processor",
}  # fmt: skip
