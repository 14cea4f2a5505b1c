"""Variations: factors at levels, written `visual.lighting@3+physical.mass@2`; "" changes nothing.

The canonical form orders factors as `factors.factors` does and leaves out level 0, so that equal variations
are equal texts. A pattern names several: `visual.*@0,2,4` is three levels of every visual factor, with the
unchanged task once.
"""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Iterable

from vla_bench.axes.factors import LEVELS, Factor, factors
from vla_bench.errors import UnknownNameError, VlaBenchError

Variation = tuple[tuple[Factor, int], ...]

_EXAMPLE = "expected factors at levels such as visual.lighting@3+physical.mass@2"


class VariationError(VlaBenchError):
    """A variation that says something impossible."""


def parse(text: str) -> Variation:
    """Read one variation; level 0 leaves its factor out.

    Raises:
        UnknownNameError: No such factor; names the nearest.
        VariationError: A level out of range, a factor named twice, or factors that contradict each other.
    """
    found: dict[str, int] = {}
    for name, levels in map(_split, text.split("+") if text else ()):
        if name not in factors():
            raise UnknownNameError("factor", name, factors(), where=f"variation {text!r}")
        _check_levels(name, levels)
        if len(levels) != 1:
            raise VariationError(
                f"variation {text!r}: {name} is given levels {levels}; one variation has one"
            )
        if name in found:
            raise VariationError(f"variation {text!r} names {name} twice")
        found[name] = levels[0]
    chosen = tuple((factor, found[name]) for name, factor in factors().items() if found.get(name))
    _check_contradictions(text, chosen)
    return chosen


def format_variation(variation: Variation) -> str:
    """The canonical text."""
    return "+".join(f"{factor.id}@{level}" for factor, level in variation)


def canonical(text: str) -> str:
    """The canonical text of a variation's text; errors are those of `parse`."""
    return format_variation(parse(text))


def is_pattern(text: str) -> bool:
    """Whether a text names factors by pattern, so that it means those of them that apply."""
    return any(mark in text for mark in "*?[")


def expand(patterns: Iterable[str]) -> tuple[str, ...]:
    """All variations that some patterns name, canonical and each once, in the order of the patterns.

    Raises:
        UnknownNameError: A name or pattern matches no factor.
        VariationError: As `parse`.
    """
    found: list[str] = []
    for text in patterns:
        parts = [_alternatives(part, text) for part in text.split("+")] if text else []
        # patterns may name one factor twice or contradicting ones; what is written out may not
        for choice in itertools.product(*parts):
            try:
                found.append(canonical("+".join(choice)))
            except VariationError:
                if not is_pattern(text):
                    raise
    return tuple(dict.fromkeys(found))


def split_list(text: str) -> list[str]:
    """Split a comma-separated list of patterns; a comma before a digit belongs to a list of levels."""
    return [part.strip() for part in re.split(r",(?!\s*\d)", text) if part.strip()]


def _split(part: str) -> tuple[str, tuple[int, ...]]:
    """`name@1,2` to its name and levels."""
    name, at, levels = part.strip().partition("@")
    if not name or not at or not re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*", levels):
        raise VariationError(f"{part!r} is no factor at a level; {_EXAMPLE}")
    numbers = tuple(int(level) for level in levels.split(","))
    return name, numbers


def _check_levels(name: str, levels: tuple[int, ...]) -> None:
    for level in levels:
        if level > LEVELS:
            raise VariationError(f"{name}@{level}: levels go from 0, the unchanged task, to {LEVELS}")


def _alternatives(part: str, text: str) -> list[str]:
    name, levels = _split(part)
    names = fnmatch.filter(factors(), name)
    if not names:
        raise UnknownNameError("factor", name, factors(), where=f"variation {text!r}")
    _check_levels(name, levels)
    return [f"{match}@{level}" for match in names for level in levels]


def _check_contradictions(text: str, variation: Variation) -> None:
    for (one, _), (other, _) in itertools.combinations(variation, 2):
        both = sorted(set(one.sets) & set(other.sets))
        if both:
            raise VariationError(
                f"variation {text!r}: {one.id} and {other.id} contradict each other, both set the {both[0]}"
            )
