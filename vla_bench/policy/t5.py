"""T5's encoder, of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers.models.t5.modeling_t5 import T5Stack

# T5's own, where the official checkpoints' text encoder has its default
MAX_DISTANCE = 128


@dataclass(frozen=True, slots=True)
class TextSizes:
    """Sizes of T5's encoder.

    Attributes:
        vocabulary: Rows of the embedding.
        width: Features of a token.
        heads, head_width, buckets: Of attention and its relative positions.
        hidden: Features inside a block's MLP.
        depth: Number of blocks.
    """

    vocabulary: int
    width: int
    heads: int
    head_width: int
    buckets: int
    hidden: int
    depth: int


def text_encoder(sizes: TextSizes) -> T5Stack:
    """Return T5's encoder without weights."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=sizes.vocabulary, d_model=sizes.width, d_kv=sizes.head_width, d_ff=sizes.hidden,
        num_layers=sizes.depth, num_heads=sizes.heads, relative_attention_num_buckets=sizes.buckets,
        relative_attention_max_distance=MAX_DISTANCE, feed_forward_proj="relu", layer_norm_epsilon=1e-6,
        dropout_rate=0.0,
    )  # fmt: skip
    return T5EncoderModel(config).encoder
