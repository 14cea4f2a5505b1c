"""From flax's names and layouts to those of our modules.

Flax keeps matrices as (in, out), convolutions as (height, width, in, out), and the projections of attention
split by heads; torch has (out, in), (out, in, height, width), and all heads in one matrix.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from vla_bench.errors import DataError
from vla_bench.policy.octo.config import OctoConfig
from vla_bench.policy.octo.pooling import HEADS as POOLING_HEADS
from vla_bench.policy.tensors import Stored, StoredTensor

# flax's scope → our module; the first that fits a name is taken, then the next ones go on from there
_SCOPES = (
    (r"^octo_transformer/task_tokenizers_\w+/hf_model/shared/embedding$", r"text.embed_tokens.weight"),
    (r"^octo_transformer/task_tokenizers_\w+/hf_model/encoder/", r"text."),
    (r"^octo_transformer/observation_tokenizers_(\w+?)/SmallStem(?:16|32)?_0/", r"stems.\1."),
    (r"^octo_transformer/(\w+)_projection/", r"projections.\1."),
    (r"^octo_transformer/(\w+)_pos_embedding$", r"positions.\1"),
    (r"^octo_transformer/BlockTransformer_0/Transformer_0/encoderblock_(\d+)/", r"blocks.\1."),
    (r"^octo_transformer/BlockTransformer_0/Transformer_0/encoder_norm/", r"norm."),
    (r"^heads_action/", r"head."),
    (r"^(stems\.\w+\.)StdConv_(\d+)/", r"\1convolutions.\2."),
    (r"^(stems\.\w+\.)GroupNorm_(\d+)/", r"\1norms.\2."),
    (r"^(stems\.\w+\.)embedding/", r"\1embedding."),
    (r"^(blocks\.\d+\.)LayerNorm_0/", r"\1attention_norm."),
    (r"^(blocks\.\d+\.)LayerNorm_1/", r"\1mlp_norm."),
    (r"^head\.map_head/", r"head.pooling."),
    (r"^(head\.pooling\.)LayerNorm_0/", r"\1mlp_norm."),
    (r"^head\.(?:mean|vocab)_proj/", r"head.projection."),
    (r"^head\.diffusion_model/time_preprocess/kernel$", r"head.score.frequencies"),
    (r"^head\.diffusion_model/cond_encoder/Dense_0/", r"head.score.condition.up."),
    (r"^head\.diffusion_model/cond_encoder/Dense_1/", r"head.score.condition.down."),
    (r"^head\.diffusion_model/reverse_network/Dense_0/", r"head.score.first."),
    (r"^head\.diffusion_model/reverse_network/Dense_1/", r"head.score.last."),
    (r"^head\.diffusion_model/reverse_network/MLPResNetBlock_(\d+)/", r"head.score.blocks.\1."),
    (r"^(head\.score\.blocks\.\d+\.)LayerNorm_0/", r"\1norm."),
    (r"^(head\.score\.blocks\.\d+\.)Dense_0/", r"\1mlp.up."),
    (r"^(head\.score\.blocks\.\d+\.)Dense_1/", r"\1mlp.down."),
    (r"^(.*\.)MultiHeadDotProductAttention_0/(query|key|value|out)/", r"\1attention.\2."),
    (r"^(.*\.)MlpBlock_0/Dense_0/", r"\1mlp.up."),
    (r"^(.*\.)MlpBlock_0/Dense_1/", r"\1mlp.down."),
)
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}


def renamed(name: str) -> str:
    """Return our name of a parameter; a name that is not known comes back with slashes in it."""
    for pattern, ours in _SCOPES:
        name = re.sub(pattern, ours, name)
    if name.startswith("text."):
        name = name.replace("/", ".")
    scope, _, leaf = name.rpartition(".")
    return f"{scope}.{_LEAVES[leaf]}" if leaf in _LEAVES else name


def translate(stored: Stored, config: OctoConfig) -> dict[str, StoredTensor]:
    """Return a checkpoint's parameters by our names and in our layouts; nothing is read.

    Raises:
        DataError: A name belongs to no part of the model, or attention has another number of heads.
    """
    found: dict[str, StoredTensor] = {}
    for theirs, tensor in stored.items():
        ours = renamed(theirs)
        if "/" in ours:
            raise DataError(tensor.file, f"{theirs!r} is no parameter of Octo")
        if ours in found:
            raise DataError(tensor.file, f"two parameters are {ours!r}, of which one is {theirs!r}")
        _require_heads(theirs, tensor, config)
        found[ours] = _laid_out(tensor, _layout(theirs, len(tensor.shape)))
    return found


def _require_heads(name: str, tensor: StoredTensor, config: OctoConfig) -> None:
    """In our layout the number of heads is no longer to be seen."""
    if not re.search(r"Attention_0/(query|key|value)/kernel$", name):
        return
    expected = POOLING_HEADS if "/map_head/" in name else config.heads
    if len(tensor.shape) != 3 or tensor.shape[1] != expected:
        raise DataError(
            tensor.file,
            f"{name!r}: expected (features, {expected} heads, size of a head), found {tensor.shape}",
        )


def _laid_out(tensor: StoredTensor, layout: Callable[[Tensor], Tensor]) -> StoredTensor:
    shape = tuple(layout(torch.empty(tensor.shape, device="meta")).shape)
    return StoredTensor(tensor.file, shape, tensor.dtype, lambda: layout(tensor.read()).contiguous())


def _layout(name: str, dimensions: int) -> Callable[[Tensor], Tensor]:
    """What brings a parameter of flax into our layout."""
    scope, _, leaf = name.rpartition("/")
    if leaf == "bias" and dimensions == 2:
        return torch.flatten
    if leaf != "kernel" or scope.endswith("time_preprocess"):
        return _as_it_is
    if dimensions == 4:
        return _standardised if re.search(r"StdConv_\d+$", scope) else _convolution
    if dimensions == 3:
        return _out_of_heads if scope.endswith("/out") else _into_heads
    return torch.t if dimensions == 2 else _as_it_is


def _as_it_is(value: Tensor) -> Tensor:
    return value


def _convolution(kernel: Tensor) -> Tensor:
    return kernel.permute(3, 2, 0, 1)


def _standardised(kernel: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 in every output channel; the original does it in every call."""
    centred = kernel - kernel.mean((0, 1, 2))
    return _convolution(centred / (centred.std((0, 1, 2), correction=0) + 1e-5))


def _into_heads(kernel: Tensor) -> Tensor:
    return kernel.flatten(1).T


def _out_of_heads(kernel: Tensor) -> Tensor:
    return kernel.flatten(0, 1).T
