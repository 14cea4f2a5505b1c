"""Llama's layers with few kernels and memory that stays where it is: what can be recorded as a CUDA graph.

The layers, their weights and what they compute are transformers' own; only the way through them differs.
Queries, keys and values of a layer come from one product, which is written straight into the cache and turned
by its position there; gate and up are one product; the outputs of both halves are added to the residual by
the product itself. A step of decoding does 26 operations a layer (counted; views apart) instead of 40, and 16
of them are the two norms, which are one kernel each where torch has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import LlamaForCausalLM

# cuDNN's attention prepares itself anew for every length, which takes longer than an action
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

Rows = Sequence[Tensor]


@dataclass(frozen=True, slots=True)
class Sight:
    """Which slots a pass may look at, and where its tokens stand.

    Attributes:
        positions: (n,) or (B, n) positions of the tokens of the pass, counted from the first real one.
        causal: A token sees itself and what is before it; only where a pass begins at slot 0.
        allowed: (n, slots) or (B, 1, n, slots) what else is hidden, or None.
    """

    positions: Tensor
    causal: bool = False
    allowed: Tensor | None = None


class Joint:
    """Linear layers of one input as one product; their weights become views of one matrix.

    Quantised layers are called one by one.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = layers
        self._weight: Tensor | None = None
        if all(map(is_plain, layers)):
            self._weight = torch.cat([_weight(layer) for layer in layers])
            ends = torch.tensor([len(_weight(layer)) for layer in layers]).cumsum(0)[:-1]
            for layer, part in zip(layers, self._weight.tensor_split(ends), strict=True):
                layer.weight = nn.Parameter(part, requires_grad=False)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, width) → (N, sum of the layers' outputs)."""
        if self._weight is None:
            return torch.cat([layer(x) for layer in self._layers], dim=-1)
        return functional.linear(x, self._weight)

    def into(self, x: Tensor, out: Tensor) -> None:
        """Write the product of (B, n, width) into `out` (B, n, outputs), a part of a larger tensor."""
        batch, n, _ = out.shape
        if self._weight is None or min(batch, n) > 1:
            out.copy_(self(x))
        else:
            torch.mm(x.flatten(0, 1), self._weight.t(), out=out.squeeze(0 if batch == 1 else 1))


class Walk:
    """The way through a Llama, from embeddings to final hidden states.

    Args:
        llama: With weights. Those of plain linear layers are moved together, not copied.
    """

    def __init__(self, llama: LlamaForCausalLM) -> None:
        config: Any = llama.config
        layers: Any = llama.model.layers
        self.llama = llama
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_size: int = layers[0].self_attn.head_dim
        self._layers = [_Layer(layer, self) for layer in layers]
        self._turns(config.max_position_embeddings)
        if self._tables[0].is_cuda:
            torch.cuda.empty_cache()  # matrices have moved; what they left behind fits nothing else

    @property
    def positions(self) -> int:
        """Number of positions that the model knows."""
        return len(self._tables[0])

    @property
    def width(self) -> int:
        """Numbers that a slot of the cache holds: query, key and value."""
        return (self.heads + 2 * self.kv_heads) * self.head_size

    def rows(self, batch: int, slots: int, *, shared: bool = False) -> Rows:
        """Memory for a pass: a (B, slots, width) tensor for each layer, or one that all of them share."""
        weight = self.llama.model.embed_tokens.weight
        count = 1 if shared else len(self._layers)
        made = [weight.new_zeros(batch, slots, self.width) for _ in range(count)]
        return made * len(self._layers) if shared else made

    def __call__(self, x: Tensor, rows: Rows, start: int, sight: Sight) -> Tensor:
        """Pass tokens through all layers, beside those that stand in the slots before `start`.

        Args:
            x: (B, n, hidden) embeddings.
            rows: Of `rows`; slots start to start + n are written.
            start: Slot of the first token.
            sight: What they see.

        Returns:
            (B, n, hidden) after the final norm.
        """
        x = x.clone(memory_format=torch.contiguous_format)  # the layers add to it in place
        cos, sin = (table[sight.positions].unsqueeze(-2) for table in self._tables)
        with sdpa_kernel(KERNELS):
            for layer, slots in zip(self._layers, rows, strict=True):
                layer(x, slots, start, (cos, sin), sight)
        return _norm(self.llama.model.norm)(x)

    def _turns(self, count: int) -> None:
        """Tables of cosines and signed sines by position; the sign is that of Llama's exchange of halves."""
        model = self.llama.model
        weight = model.embed_tokens.weight
        cos, sin = model.rotary_emb(weight, torch.arange(count, device=weight.device)[None])
        low, high = sin[0].chunk(2, dim=-1)
        self._tables = (cos[0].contiguous(), torch.cat([-low, high], dim=-1))


class _Layer:
    def __init__(self, layer: Any, walk: Walk) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._walk = walk
        self._norms = _norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)
        self._qkv = Joint([attention.q_proj, attention.k_proj, attention.v_proj])
        self._gate_up = Joint([mlp.gate_proj, mlp.up_proj])
        self._activation = mlp.act_fn
        self._o, self._down = attention.o_proj, mlp.down_proj

    def __call__(
        self, x: Tensor, slots: Tensor, start: int, turns: tuple[Tensor, Tensor], sight: Sight
    ) -> None:
        """Change (B, n, hidden) in place."""
        self._qkv.into(self._norms[0](x), slots[:, start : start + x.shape[1]])
        _add(x, self._o, self._attend(slots, start, x.shape[1], turns, sight))
        gate, up = self._gate_up(self._norms[1](x)).chunk(2, dim=-1)
        _add(x, self._down, self._activation(gate).mul_(up))

    def _attend(
        self, slots: Tensor, start: int, n: int, turns: tuple[Tensor, Tensor], sight: Sight
    ) -> Tensor:
        """Turn the new queries and keys in their slots, and return (B, n, heads × head size)."""
        walk, end = self._walk, start + n
        heads = slots[:, :end].unflatten(-1, (-1, walk.head_size))
        turned = heads[:, start:, : walk.heads + walk.kv_heads]
        exchanged = turned.roll(walk.head_size // 2, -1)
        turned.mul_(turns[0]).addcmul_(exchanged, turns[1])
        sizes = [walk.heads, walk.kv_heads, walk.kv_heads]
        query, key, value = (part.transpose(1, 2) for part in heads.split(sizes, dim=2))
        seen = functional.scaled_dot_product_attention(
            query[:, :, start:], key, value, attn_mask=sight.allowed, is_causal=sight.causal,
            enable_gqa=walk.heads != walk.kv_heads,
        )  # fmt: skip
        return seen.transpose(1, 2).flatten(2)


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer is nothing but a product with a matrix of numbers: not quantised, no bias."""
    return type(layer) is nn.Linear and layer.bias is None and type(layer.weight) is nn.Parameter


def _weight(layer: nn.Module) -> Tensor:
    return layer.get_parameter("weight").detach()


def _add(x: Tensor, layer: nn.Module, inputs: Tensor) -> None:
    """Add a layer's output to (B, n, hidden) in place; a plain layer's by the product itself."""
    if is_plain(layer):
        x.view(-1, x.shape[-1]).addmm_(inputs.flatten(0, 1), _weight(layer).t())
    else:
        x.add_(layer(inputs))


def _norm(norm: Any) -> Callable[[Tensor], Tensor]:
    shape, weight, epsilon = norm.weight.shape, norm.weight.detach(), norm.variance_epsilon
    return lambda x: functional.rms_norm(x, shape, weight, epsilon)
