"""Configurations of OmegaConf, from the records that a pickle becomes, and the references in them."""

from __future__ import annotations

import re
from typing import Any

from vla_bench.policy.diffusion.pickles import Record, RefusedError

_MAX_NODES = 100_000
_MAX_DEPTH = 32
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_EVALUATED = re.compile(r"\$\{eval:'([^']*)'\}")
_SUM = re.compile(r"\s*\d{1,9}(\s*[+-]\s*\d{1,9})*\s*")


class Configuration:
    """A tree of tables, lists, texts and numbers in which texts may refer to other places.

    Args:
        record: What the pickle holds of a `DictConfig`.

    Raises:
        RefusedError: It is something else, or too large.
    """

    def __init__(self, record: Any) -> None:
        self._left = _MAX_NODES
        self._tree = self._plain(record, _MAX_DEPTH)
        if not isinstance(self._tree, dict):
            raise RefusedError(f"its configuration is a {type(self._tree).__name__}, expected a table")

    def get(self, place: str) -> Any:
        """Return what stands at `a.b.c`, with all references followed; None if nothing does.

        Raises:
            RefusedError: References go in a circle, or what they make is too large.
        """
        self._left = _MAX_NODES
        return self._followed(self._at(place), _MAX_DEPTH)

    def _plain(self, node: Any, depth: int) -> Any:
        """Tables, lists and values of an OmegaConf node, which keeps them in its `_content` or `_val`."""
        self._count(depth)
        if not isinstance(node, Record):
            return node if isinstance(node, str | int | float | bool | None) else str(type(node).__name__)
        state = node.state if isinstance(node.state, dict) else {}
        if "_val" in state:
            return self._plain(state["_val"], depth - 1)
        content = state.get("_content", node.name)
        if isinstance(content, dict):
            return {str(key): self._plain(value, depth - 1) for key, value in content.items()}
        if isinstance(content, list):
            return [self._plain(value, depth - 1) for value in content]
        return content if isinstance(content, str | None) else None

    def _followed(self, value: Any, depth: int) -> Any:
        self._count(depth)
        if isinstance(value, dict):
            return {key: self._followed(each, depth - 1) for key, each in value.items()}
        if isinstance(value, list):
            return [self._followed(each, depth - 1) for each in value]
        if not isinstance(value, str):
            return value
        if whole := _REFERENCE.fullmatch(value):
            return self._followed(self._at(whole[1], depth), depth - 1)
        if evaluated := _EVALUATED.fullmatch(value):
            return self._sum(evaluated[1], depth) if len(evaluated[1]) < 200 else value
        return value

    def _sum(self, text: str, depth: int) -> Any:
        """The one kind of expression that architectures use; any other stays as it is written."""
        filled = _REFERENCE.sub(lambda found: str(self._followed(self._at(found[1], depth), depth - 1)), text)
        if not _SUM.fullmatch(filled):
            return f"${{eval:'{text}'}}"
        return sum(int(term) for term in re.findall(r"[+-]?\d+", filled.replace(" ", "")))

    def _at(self, place: str, depth: int = _MAX_DEPTH) -> Any:
        value: Any = self._tree
        for key in place.split("."):
            while isinstance(value, str) and (through := _REFERENCE.fullmatch(value)):
                self._count(depth)
                value = self._at(through[1], depth - 1)
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def _count(self, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth < 0:
            raise RefusedError("its configuration is too large or refers to itself")
