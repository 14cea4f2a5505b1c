"""Texts as bytes: the tokenizer of small policies, which have no words of their own."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

# as T5 numbers them
PAD, END = 0, 1
VOCABULARY = 2 + 256


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer with one token a byte, and T5's `<pad>` and `</s>`, which ends every text."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": PAD, "</s>": END} | {symbol: END + 1 + i for i, symbol in enumerate(symbols)}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    return made
