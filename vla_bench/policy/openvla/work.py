"""What OpenVLA has to compute and to read for an action, phase by phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from vla_bench.policy.openvla.model import OpenVla
from vla_bench.policy.openvla.vit import VisionTransformer
from vla_bench.policy.profile import Work
from vla_bench.types import PrecisionReport


class Counted:
    """The products of a model with P matrix elements each, and the bytes that they take.

    A product with n rows of input is 2 P n operations; attention of n tokens over m is 4 n m × width in each
    layer. What a pass leaves out (the last block of a tower, its pooling) is not counted, nor are norms,
    embeddings and positions, which are small.

    Args:
        model: With weights.
        report: What its precision came to, for the bytes of quantised layers.
    """

    def __init__(self, model: OpenVla, report: PrecisionReport | None) -> None:
        self._model = model
        self._kept, self._per_element = None, 0.0
        if report is not None and report.layers:
            self._kept = report.kept
            self._per_element = report.bytes_quantised / report.parameters_quantised
        self._names = {id(layer): name for name, layer in model.named_modules()}

    def vision(self, batch: int, pictures: int) -> Work:
        """All towers and the projector, for so many pictures of each of B episodes."""
        towers, projector = self._model.vision_backbone.towers, self._model.projector
        patches = towers[0].tower.patches
        works = [self._tower(tower, batch * pictures) for tower in towers]
        works.append(self._products(projector, batch * pictures * patches))
        return _sum(works)

    def prefill(self, batch: int, length: int, answers: int, *, causal: bool = True) -> Work:
        """One pass over prompts of `length` tokens, of which so many are answered with a token."""
        llama = self._model.language_model
        share = 0.5 if causal else 1.0
        works = [
            self._products(llama.model.layers, batch * length),
            self._attention(batch * length, length * share),
        ]
        if answers:
            works.append(self._products(llama.lm_head, batch * answers))
        return _sum(works)

    def decode(self, batch: int, length: int, steps: int) -> Work:
        """So many further steps, each of which reads all weights and the cache."""
        llama = self._model.language_model
        step = [self._products(llama.model.layers, batch), self._products(llama.lm_head, batch)]
        step.append(self._attention(batch, length, cached=batch * length))
        once = _sum(step)
        return Work(steps * once.flops, steps * once.bytes)

    def _tower(self, tower: VisionTransformer, pictures: int) -> Work:
        blocks = list(tower.blocks)[:-1]
        size = tower.tower
        tokens = size.patches + size.prefix
        patch = tower.patch_embed.proj.weight
        works = [self._products(block, pictures * tokens) for block in blocks]
        works.append(Work(2 * patch.numel() * pictures * size.patches, patch.nbytes))
        works.append(Work(4 * pictures * tokens * tokens * size.width * len(blocks), 0))
        return _sum(works)

    def _attention(self, tokens: int, seen: float, cached: int = 0) -> Work:
        """Attention of all layers of the language model; `cached` tokens are read from memory."""
        llama = self._model.config.llama
        layers, width = llama["num_hidden_layers"], llama["hidden_size"]
        size = self._model.dtype.itemsize
        return Work(4 * tokens * seen * width * layers, 2 * cached * width * layers * size)

    def _products(self, module: nn.Module, rows: int) -> Work:
        # quantised layers have the sizes of the linear ones that they replace
        layers: list[Any] = [layer for layer in module.modules() if hasattr(layer, "in_features")]
        sizes = [layer.in_features * layer.out_features for layer in layers]
        stored = sum(n * self._element_bytes(layer) for n, layer in zip(sizes, layers, strict=True))
        return Work(2 * rows * sum(sizes), stored)

    def _element_bytes(self, layer: nn.Module) -> float:
        is_quantised = self._kept is not None and self._names[id(layer)] not in self._kept
        return self._per_element if is_quantised else self._model.dtype.itemsize


def _sum(works: Sequence[Work]) -> Work:
    return Work(sum(w.flops for w in works), sum(w.bytes for w in works))


def autoregressive(counted: Counted, batch: int, length: int, slots: int) -> Mapping[str, Work]:
    """Work of an action token by token: the prompt gives the first one, each further step one more."""
    return {
        "inference.vision": counted.vision(batch, 1),
        "inference.prefill": counted.prefill(batch, length, 1),
        "inference.decode": counted.decode(batch, length, slots - 1),
    }


def parallel(counted: Counted, batch: int, pictures: int, length: int, answers: int) -> Mapping[str, Work]:
    """Work of OFT's single pass; `answers` of its positions are read as tokens."""
    return {
        "inference.vision": counted.vision(batch, pictures),
        "inference.prefill": counted.prefill(batch, length, answers, causal=False),
    }
