"""Which weights are trained, as a table: the six ways that OpenVLA's paper compares.

Their counts on the paper's model are the paper's (table 1; 7,188 / 465 / 6,760 / 914 / 97.6 million): the
last layer goes with both embeddings, the sandwich with the projector, and LoRA adapts every linear layer, the
output layer too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vla_bench import seeding
from vla_bench.errors import MissingCapabilityError
from vla_bench.learn.training.config import StrategyName, TrainingConfig
from vla_bench.policy.openvla.model import OpenVla

ADAPTER = ".lora_"
_LLAMA, _VISION, _PROJECTOR = "language_model.", "vision_backbone.", "projector."


def _last(model: OpenVla) -> tuple[str, ...]:
    layers = model.config.llama["num_hidden_layers"]
    return (
        f"{_LLAMA}model.layers.{layers - 1}.",
        f"{_LLAMA}model.embed_tokens.",
        f"{_LLAMA}lm_head.",
    )


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to train.

    Attributes:
        trains: The model → beginnings of the names of what is trained.
        base: Precision that the rest is loaded in; None is that of training.
        adapts: Whether low-rank adapters are trained instead of the weights themselves.
    """

    trains: Callable[[OpenVla], tuple[str, ...]]
    base: str | None = None
    adapts: bool = False


STRATEGIES: dict[StrategyName, Strategy] = {
    "full": Strategy(lambda model: ("",)),
    "last_layer": Strategy(_last),
    "frozen_vision": Strategy(lambda model: (_PROJECTOR, _LLAMA)),
    "sandwich": Strategy(lambda model: (_VISION, _PROJECTOR, *_last(model))),
    "lora": Strategy(lambda model: (), adapts=True),
    "qlora": Strategy(lambda model: (), base="bnb_nf4", adapts=True),
}


def prepare(model: OpenVla, config: TrainingConfig) -> None:
    """Let exactly the weights of a strategy be trained; adapters are put in where it has them.

    Raises:
        MissingCapabilityError: PEFT is not installed.
    """
    strategy = STRATEGIES[config.strategy]
    if strategy.adapts:
        _adapt(model, config)
    beginnings = strategy.trains(model)
    for name, parameter in model.named_parameters():
        trained = ADAPTER in name if strategy.adapts else name.startswith(beginnings)
        parameter.requires_grad_(trained)


def trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield name and value of everything that is trained."""
    return ((name, value) for name, value in model.named_parameters() if value.requires_grad)


def count(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(value.numel() for _, value in trained(model))


def lora_config(model: OpenVla, config: TrainingConfig) -> Any:
    """PEFT's description of the adapters: of every linear layer, without dropout, as OpenVLA trains them.

    Raises:
        MissingCapabilityError: PEFT is not installed.
    """
    try:
        from peft import LoraConfig
    except ModuleNotFoundError as error:
        raise MissingCapabilityError(
            f"strategy {config.strategy!r} needs the package 'peft': pip install 'vla-bench[openvla]'"
        ) from error
    layers = [
        name.partition(".base_layer")[0]
        for name, module in model.named_modules()
        if hasattr(module, "in_features") and ADAPTER not in name
    ]
    # one expression, because a list would be matched by endings
    names = "|".join(re.escape(name) for name in dict.fromkeys(layers))
    return LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, target_modules=names)


def write_adapter(model: OpenVla, config: TrainingConfig, base: Path, folder: Path) -> None:
    """Write the adapters as PEFT does.

    Args:
        model: With adapters.
        config: Of the training.
        base: Folder of the model that they belong to.
        folder: Is made.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    described = lora_config(model, config)
    described.base_model_name_or_path, described.inference_mode = str(base), True
    described.save_pretrained(str(folder))
    tensors = {
        f"base_model.model.{name.replace('.default.', '.')}": value.detach().cpu().contiguous()
        for name, value in model.named_parameters()
        if ADAPTER in name
    }
    save_file(tensors, folder / "adapter_model.safetensors")


def _adapt(model: OpenVla, config: TrainingConfig) -> None:
    described = lora_config(model, config)  # says if PEFT is not installed
    from peft import inject_adapter_in_model

    inject_adapter_in_model(described, model)
    draws = seeding.generator("policy", "training", "adapters", config.seed)
    for name, value in model.named_parameters():
        if ADAPTER not in name:
            continue
        value.data = value.data.float()  # adapters are kept in float32, whatever the base is in
        if ".lora_A." in name:  # B stays zero: nothing changes before the first step
            drawn = draws.standard_normal(tuple(value.shape), dtype=np.float32) / config.rank
            value.data.copy_(torch.from_numpy(drawn))
