"""Sizes of a new model in OpenVLA's plan."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from vla_bench.learn.architecture import Architecture


class OpenVlaArchitecture(Architecture):
    """A file of the family `openvla`.

    Attributes:
        image_px: Side of the pictures that the towers see.
        prompt: Template of the question, whose words the tokenizer knows.
        dino, siglip: Keyword arguments of timm that differ from the towers of openvla-7b.
        llama: Keys of transformers' LlamaConfig that differ from Llama 2 7B's; the vocabulary is its own.
        chunk: Number of actions that it gives at once; tokens that are spoken one after the other give one.
    """

    image_px: int = Field(gt=0)
    prompt: str
    dino: dict[str, Any]
    siglip: dict[str, Any]
    llama: dict[str, Any]
    chunk: int = Field(default=1, gt=0)
