"""Frozen texts: what factors say instead of an instruction, and other goals with their instructions.

A factor's file names a CSV file beside it. Columns of texts: `instruction`, the text that is replaced,
`level`, `variant` and `text`. Columns of prompts: `task`, `level`, `instruction`, `goal` (literals such as
`on(a, b)`, joined by `;`) and `source`. Nothing is composed at run time.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vla_bench.axes.factors import LEVELS, Factor
from vla_bench.bddl import Problem
from vla_bench.errors import DataError, MissingDataError
from vla_bench.types import Predicate, Task


@dataclass(frozen=True, slots=True)
class Prompt:
    """Another instruction for a scene, with the goal that it declares."""

    instruction: str
    goal: tuple[Predicate, ...]
    source: str


def variants(factor: Factor, instruction: str, level: int) -> tuple[str, ...]:
    """The texts that stand for an instruction at a level; none if it has none."""
    return _texts(_file(factor)).get((instruction, level), ())


def prompt(factor: Factor, task: Task, level: int) -> Prompt | None:
    """The other prompt of a task at a level."""
    return _prompts(_file(factor)).get((task.id, level))


def substitute(factor: Factor, category: str, level: int) -> str | None:
    """The category that stands in for another one at a level (columns `category`, `level`, `substitute`)."""
    return _substitutes(_file(factor)).get((category, level))


def missing_text(factor: Factor, task: Task, level: int | None, wanted: str | None = None) -> str | None:
    """Why a factor has nothing to say for a task (at a level, or at any), None if it has.

    Args:
        factor: A factor with a file of texts.
        task: The task.
        level: 1 to 5, or None for any.
        wanted: The category that is looked for in a file of substitutes.
    """
    kind = _kind(_file(factor))
    levels = [
        n
        for n in range(1, LEVELS + 1)
        if (kind == "text" and variants(factor, task.instruction, n))
        or (kind == "goal" and prompt(factor, task, n))
        or (kind == "substitute" and wanted is not None and substitute(factor, wanted, n))
    ]
    if not levels:
        what = {
            "text": f"no text stands for {task.instruction!r}",
            "goal": "its scene has no other prompt",
            "substitute": f"nothing stands in for a {wanted}",
        }[kind]
        return f"{what} in {_file(factor).name}"
    if level is not None and level not in levels:
        return f"{_file(factor).name} has levels {', '.join(map(str, levels))} for it, not {level}"
    return None


def _file(factor: Factor) -> Path:
    assert factor.texts is not None, f"{factor.id} names no texts"
    return factor.source.parent / factor.texts


def _kind(path: Path) -> str:
    columns = _rows(path)[0].keys()
    return next((name for name in ("goal", "substitute") if name in columns), "text")


@functools.lru_cache(maxsize=32)
def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: a factor's file names it, and it is not there") from error
    if not rows or "level" not in rows[0]:
        raise DataError(path, "is no table of texts: it has no column 'level' or no rows")
    return rows


@functools.lru_cache(maxsize=32)
def _texts(path: Path) -> Mapping[tuple[str, int], tuple[str, ...]]:
    found: dict[tuple[str, int], tuple[str, ...]] = {}
    for row in _rows(path):
        key = row["instruction"], int(row["level"])
        found[key] = (*found.get(key, ()), row["text"])
    return found


@functools.lru_cache(maxsize=32)
def _prompts(path: Path) -> Mapping[tuple[str, int], Prompt]:
    return {
        (row["task"], int(row["level"])): Prompt(row["instruction"], _goal(path, row["goal"]), row["source"])
        for row in _rows(path)
    }


@functools.lru_cache(maxsize=32)
def _substitutes(path: Path) -> Mapping[tuple[str, int], str]:
    return {(row["category"], int(row["level"])): row["substitute"] for row in _rows(path)}


def _goal(path: Path, text: str) -> tuple[Predicate, ...]:
    literals = [re.fullmatch(r"(\w+)\((\w+(?:, \w+)*)\)", part.strip()) for part in text.split(";")]
    if any(match is None for match in literals):
        raise DataError(path, f"{text!r} is no goal; expected literals such as on(a, b), joined by ';'")
    return tuple(Predicate(m.group(1), tuple(m.group(2).split(", "))) for m in literals if m)


def goal_text(problem: Problem) -> str:
    """A problem's goal as it stands in a file of prompts."""
    return "; ".join(map(str, problem.goal))
