"""Effects by a model of all episodes: what an axis does to an arm, and whether precision and pacing add up.

Every effect has a model of its own (`statistics.gee_effects`) of the episodes that it compares, so that a
level without successes or without failures refuses its own effect and no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from vla_bench import seeding
from vla_bench.account import timing
from vla_bench.account.boards import Board, axis_of
from vla_bench.account.counted import Counted
from vla_bench.account.statistics import (
    CrossedEffect,
    Effect,
    NoModelError,
    crossed_effects,
    gee_effects,
    holm,
)
from vla_bench.account.timing import Scope
from vla_bench.types import TASK_AXES, Arm, Episode

OTHERS, UNVARIED = "other axes", "unvaried"
OWN_LATENCY = "that of its precision"


@dataclass(frozen=True, slots=True)
class Fitted:
    """An effect of a model, or why there is none.

    Attributes:
        n: Episodes, each arm's own counted.
        effect: None where the model was refused.
        p_holm: Adjusted for the effects of the same arm and suite (of an interaction: of the same place).
        refused: Why; "" where it was not.
    """

    n: int
    effect: Effect | None
    p_holm: float | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class AxisEffect:
    """What an axis does to an arm.

    Attributes:
        axis: `visual` of tasks that test it, `visual@2` of its factors at a level.
        base: What it is compared with: `OTHERS` or `UNVARIED`.
    """

    suite: str
    arm: Arm
    axis: str
    base: str
    fitted: Fitted


@dataclass(frozen=True, slots=True)
class Interaction:
    """Whether what a precision changes depends on the pacing.

    Attributes:
        common: What the four arms have in common; precision and pacing are empty.
        precisions, pacings: The reference, and what is compared with it.
        paired: The same from the differences of each episode.
    """

    place: str
    common: Arm
    precisions: tuple[str, str]
    pacings: tuple[str, str]
    paired: CrossedEffect
    fitted: Fitted


Outcome = tuple[bool, str, str]  # whether an episode succeeded, its task, and its level


def axis_effects(counted: Counted) -> Iterator[AxisEffect]:
    """Every axis of tasks against the other tasks, and every axis of factors, by level, against none."""
    for board in counted.boards:
        for arm in board.arms:
            found = [*_of_task_axes(board, arm), *_of_factor_axes(board, arm)]
            fitted = adjusted([_fit(rows, "axis", counted.confidence) for _, _, rows in found])
            for (axis, base, _), own in zip(found, fitted, strict=True):
                yield AxisEffect(board.suite, arm, axis, base, own)


def interactions(counted: Counted) -> Iterator[Interaction]:
    """Precision × pacing, wherever a policy was run at two of both: still and moving targets apart."""
    for scope in timing.by_suite(counted):
        found = list(_interactions(counted, scope))
        fitted = adjusted([made.fitted for made in found])
        yield from (replace(made, fitted=own) for made, own in zip(found, fitted, strict=True))


def interaction_fit(
    scope: Scope, arms: Mapping[tuple[str, str], Arm], episodes: Sequence[Episode], confidence: float
) -> Fitted:
    """The interaction of two factors, of the arms of all four pairs of their levels, the reference first."""
    rows = [
        (won, episode.task_id, *levels)
        for levels, arm in arms.items()
        for won, episode in zip(timing.succeeded(scope.outcomes, arm, episodes), episodes, strict=True)
    ]
    won, tasks, first, second = zip(*rows, strict=True) if rows else ((),) * 4
    try:
        *_, effect = gee_effects(
            won, tasks, {"weights": first, "timing": second}, confidence, interactions=[("weights", "timing")]
        )
    except NoModelError as error:
        return Fitted(len(rows), None, refused=str(error))
    return Fitted(len(rows), effect)


def adjusted(found: Sequence[Fitted]) -> list[Fitted]:
    """The same with Holm's p over all that were not refused."""
    p_values = iter(holm([made.effect.p_value for made in found if made.effect]))
    return [replace(made, p_holm=next(p_values)) if made.effect else made for made in found]


def _fit(rows: Sequence[Outcome], factor: str, confidence: float) -> Fitted:
    won, tasks, levels = zip(*rows, strict=True)
    try:
        return Fitted(len(rows), gee_effects(won, tasks, {factor: levels}, confidence)[0])
    except NoModelError as error:
        return Fitted(len(rows), None, refused=str(error))


def _rows(board: Board, arm: Arm, variation: str, tasks: Sequence[str], level: str) -> list[Outcome]:
    """Outcomes of an arm on those of some tasks that were run under a variation."""
    ran = board.outcomes.get(variation, {})
    return [
        (record.status == "success", task, level)
        for task in tasks
        if task in ran
        for record in ran[task][arm].counted.values()
    ]


def _of_task_axes(board: Board, arm: Arm) -> Iterator[tuple[str, str, list[Outcome]]]:
    """Unvaried tasks of an axis against those of the others; the base comes first."""
    for axis in TASK_AXES:
        own = [task for task, tested in board.axes.items() if tested == axis]
        others = [task for task, tested in board.axes.items() if tested not in (axis, None)]
        base, rows = _rows(board, arm, "", others, OTHERS), _rows(board, arm, "", own, axis)
        if base and rows:
            yield axis, OTHERS, base + rows


def _of_factor_axes(board: Board, arm: Arm) -> Iterator[tuple[str, str, list[Outcome]]]:
    """The factors of an axis at a level against the same tasks unvaried."""
    at: dict[tuple[str, int], list[str]] = {}
    for factor, levels in board.single().items():
        for level, variation in levels.items():
            at.setdefault((axis_of(factor), level), []).append(variation)
    for (axis, level), variations in at.items():
        tasks, name = board.tasks(variations), f"{axis}@{level}"
        base = _rows(board, arm, "", tasks, UNVARIED)
        rows = [row for variation in variations for row in _rows(board, arm, variation, tasks, name)]
        if base and rows:
            yield name, UNVARIED, base + rows


def _interactions(counted: Counted, scope: Scope) -> Iterator[Interaction]:
    table: Mapping[str, Mapping[str, str]] = counted.header.study.get("crossed") or {}
    groups: dict[Arm, dict[tuple[str, str], Arm]] = {}
    for arm in counted.arms:
        if scope.outcomes.get(arm):
            is_own = arm.latency == table.get("latencies", {}).get(arm.precision)
            latency = OWN_LATENCY if is_own else arm.latency
            common = replace(arm, precision="", pacing="", latency=latency)
            groups.setdefault(common, {})[arm.precision, arm.pacing] = arm
    for common, grid in groups.items():
        precisions, pacings = (list(dict.fromkeys(names)) for names in zip(*grid, strict=True))
        precisions.sort(key=lambda precision: precision != table.get("reference"))
        for precision, pacing in product(precisions[1:], pacings[1:]):
            pair = (precisions[0], precision), (pacings[0], pacing)
            if all(cell in grid for cell in product(*pair)):
                arms = {cell: grid[cell] for cell in product(*pair)}
                yield from _interaction(counted, scope, common, pair, arms)


def _interaction(
    counted: Counted,
    scope: Scope,
    common: Arm,
    pair: tuple[tuple[str, str], tuple[str, str]],
    arms: Mapping[tuple[str, str], Arm],
) -> Iterator[Interaction]:
    """One, of four arms; none where no episode counts for all of them."""
    episodes = timing.shared(scope.outcomes, list(arms.values()))
    names = dict(zip(arms, product("rp", "rp"), strict=True))  # the reference, and what is compared
    outcomes = {
        names[cell]: [float(won) for won in timing.succeeded(scope.outcomes, arm, episodes)]
        for cell, arm in arms.items()
    }
    tasks = [f"{episode.task_id}|{episode.variation}" for episode in episodes]
    rng = seeding.generator("statistics", "interaction", scope.name, *(arm.key for arm in arms.values()))
    fitted = interaction_fit(scope, arms, episodes, counted.confidence)
    for paired in crossed_effects(outcomes, tasks, "r", counted.confidence, rng):
        if paired.kind == "interaction":
            yield Interaction(scope.name, common, *pair, paired, fitted)
