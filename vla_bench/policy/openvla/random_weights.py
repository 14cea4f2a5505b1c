"""A checkpoint that is made up: an architecture at its full size with random weights, for measuring speed.

Nothing is read or fetched but what a checkpoint folder on this machine says of its sizes; without one, those
of openvla-7b are known. Every weight is drawn on the device that it stays on.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from vla_bench import seeding
from vla_bench.policy.openvla.checkpoint import Source, config_of
from vla_bench.policy.openvla.model import OpenVla
from vla_bench.policy.openvla.processor import FILE as PROCESSOR_FILE
from vla_bench.policy.openvla.prompts import EMPTY
from vla_bench.policy.openvla.prompts import FILE as TOKENIZER_FILE
from vla_bench.policy.tensors import StoredTensor

_TOWERS = ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"]
OPENVLA_7B: Mapping[str, Any] = {
    "arch_specifier": "no-align+fused-gelu-mlp", "image_resize_strategy": "resize-naive",
    "image_sizes": [224, 224], "model_type": "openvla", "n_action_bins": 256, "pad_to_multiple_of": 64,
    "text_config": {"model_type": "llama", "pad_token_id": 32000, "vocab_size": 32064},
    "timm_model_ids": _TOWERS, "timm_override_act_layers": [None, None], "use_fused_vision_backbone": True,
}  # fmt: skip
PROCESSOR: Mapping[str, Any] = {
    "image_resize_strategy": "resize-naive", "input_sizes": [[3, 224, 224]] * 2,
    "interpolations": ["bicubic"] * 2,
    "means": [[0.484375, 0.455078125, 0.40625], [0.5] * 3],
    "stds": [[0.228515625, 0.2236328125, 0.224609375], [0.5] * 3],
}  # fmt: skip
# Norms and scales are near one; everything else has a mean of zero.
_NEAR_ONE = ("norm.weight", "norm1.weight", "norm2.weight", "layernorm.weight", "scale_factor")


@dataclass(frozen=True)
class RandomSource(Source):
    """A checkpoint whose tensors are drawn when they are read.

    Attributes:
        device: Where they are drawn.
        held: What keeps a made-up folder; it goes when this does.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    held: Any = None

    def weights(self) -> dict[str, StoredTensor]:
        """Return the tensors of the model."""
        return self._drawn(OpenVla.on_meta(config_of(self)))

    def part(self, name: str) -> Path:
        """Return a name for one of OFT's parts, for errors."""
        return self.folder / f"random {name}"

    def parts(self, name: str) -> list[Path]:
        """Nothing is there that a card does not ask for."""
        return []

    def part_tensors(self, name: str, like: nn.Module) -> dict[str, StoredTensor]:
        """Return tensors for the module `like`."""
        return self._drawn(like)

    def _drawn(self, like: nn.Module) -> dict[str, StoredTensor]:
        seed = seeding.generator("policy", "openvla", "random weights")
        generator = torch.Generator(self.device).manual_seed(int(seed.integers(1 << 31)))
        return {
            name: StoredTensor(
                self.folder, tuple(tensor.shape), torch.bfloat16,
                partial(_draw, tensor.shape, generator, near_one=name.endswith(_NEAR_ONE)),
            )
            for name, tensor in like.state_dict().items()
        }  # fmt: skip


def random_source(folder: Path | None, keys: Iterable[str], device: torch.device) -> RandomSource:
    """Return a made-up checkpoint.

    Args:
        folder: Of a checkpoint, whose sizes are taken; its weights need not be there. Without one, the sizes
            are those of openvla-7b.
        keys: Names of data sets; the made-up statistics of each map every action to itself.
        device: Where weights are drawn.
    """
    if folder is not None:
        return RandomSource(folder, device=device)
    held = tempfile.TemporaryDirectory(prefix="openvla-")
    made = Path(held.name)
    (made / "config.json").write_text(json.dumps({**OPENVLA_7B, "norm_stats": _statistics(keys)}))
    (made / PROCESSOR_FILE).write_text(json.dumps(PROCESSOR))
    _tokenizer().save(str(made / TOKENIZER_FILE))
    return RandomSource(made, device=device, held=held)


def _statistics(keys: Iterable[str]) -> dict[str, Any]:
    def table(size: int) -> dict[str, list[float]]:
        low, high = [-1.0] * size, [1.0] * size
        return {"q01": low, "q99": high, "min": low, "max": high}

    return {key: {"action": table(7), "proprio": table(8)} for key in list(keys) or ["made_up"]}


def _tokenizer() -> Tokenizer:
    """A tokenizer that takes four characters at a time for the same token.

    Llama's takes about as many, so that prompts have about their real length.
    """
    vocabulary = {f"<{i}>": i for i in range(32000) if i != EMPTY} | {"▁": EMPTY}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<0>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(".{1,4}"), "isolated")
    return made


def _draw(shape: torch.Size, generator: torch.Generator, *, near_one: bool) -> Tensor:
    """Normal numbers of a size that keeps what passes through moderate."""
    scale = 0.1 if len(shape) < 2 else shape[1:].numel() ** -0.5
    drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.bfloat16)
    return drawn.mul_(scale).add_(1.0) if near_one else drawn.mul_(scale)
