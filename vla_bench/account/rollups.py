"""Roll-ups: success by task axis, by factor and level, and of compositions; pooled over episodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vla_bench.account.boards import Board, Tally, added, axis_of
from vla_bench.account.cells import REFERENCE
from vla_bench.account.statistics import (
    Estimate,
    PairedDifference,
    holm,
    paired_difference,
    paired_estimate,
)
from vla_bench.seeding import generator
from vla_bench.types import TASK_AXES, Arm

# A name, and by arm and column what was reached there.
Place = tuple[str, dict[Arm, dict[str, Tally]]]


@dataclass(frozen=True, slots=True)
class Line:
    """What an arm, or the reference, reached at a place, by column."""

    place: str
    arm: Arm
    cells: Mapping[str, Tally]

    @property
    def total(self) -> Tally:
        """All of the line's cells together."""
        return added(self.cells.values())


@dataclass(frozen=True, slots=True)
class Rollup:
    """Lines of equal columns; those of one place follow each other, the reference last."""

    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def by_task_axis(boards: Sequence[Board]) -> Rollup:
    """Unvaried episodes of every suite, by the axis that their task tests."""
    return _by_kind(TASK_AXES, [(board, board.axes) for board in boards])


def by_group(boards: Sequence[Board]) -> Rollup:
    """Unvaried episodes of every suite that tells its tasks apart, by their group and split."""
    apart = [(board, board.groups) for board in boards if len(set(board.groups.values())) > 1]
    columns = tuple(dict.fromkeys(group for _, groups in apart for group in groups.values()))
    return _by_kind(columns, apart)


def _by_kind(columns: Sequence[str], boards: Iterable[tuple[Board, Mapping[str, str | None]]]) -> Rollup:
    """Unvaried episodes of every board, by the column that each of its tasks belongs to."""

    def cells(board: Board, kinds: Mapping[str, str | None], arm: Arm) -> dict[str, Tally]:
        return {
            column: board.total(arm, "", [task for task, kind in kinds.items() if kind == column])
            for column in columns
        }

    return _rollup(
        columns,
        (
            (board.suite, {arm: cells(board, kinds, arm) for arm in (*board.arms, REFERENCE)})
            for board, kinds in boards
        ),
    )


def by_factor(boards: Sequence[Board]) -> Rollup:
    """Every factor by level; level 0 are the unvaried episodes of the tasks that its levels were run on."""
    places: list[Place] = []
    for board in boards:
        for factor, levels in board.single().items():
            tasks = board.tasks(levels.values())
            cells = {
                arm: {
                    str(level): board.total(arm, variation, tasks)
                    for level, variation in {0: "", **levels}.items()
                }
                for arm in (*board.arms, REFERENCE)
            }
            places.append((_named(factor, board, boards), cells))
    return _rollup(_levels(places), places)


def by_factor_axis(boards: Sequence[Board]) -> Rollup:
    """Every axis by level, over its factors; at level 0 an episode counts once, however many share it."""
    places: list[Place] = []
    for board in boards:
        for axis, factors in _by_axis(board).items():
            tasks = board.tasks(variation for levels in factors for variation in levels.values())
            numbers = sorted({level for levels in factors for level in levels})
            cells = {
                arm: {
                    "0": board.total(arm, "", tasks),
                    **{str(level): _pooled(board, arm, level, factors) for level in numbers},
                }
                for arm in (*board.arms, REFERENCE)
            }
            places.append((_named(axis, board, boards), cells))
    return _rollup(_levels(places), places)


def by_composition(boards: Sequence[Board]) -> Rollup:
    """Every composition of factors beside the unvaried episodes of the same tasks."""
    places: list[Place] = []
    for board in boards:
        for composition in board.compositions():
            tasks = board.tasks([composition])
            cells = {
                arm: {
                    name: board.total(arm, variation, tasks)
                    for name, variation in (("unvaried", ""), ("varied", composition))
                }
                for arm in (*board.arms, REFERENCE)
            }
            places.append((_named(composition, board, boards), cells))
    return _rollup(("unvaried", "varied"), places)


def uneven_axes(boards: Sequence[Board]) -> list[str]:
    """Axes whose factors were run on different tasks, so that levels weigh the tasks differently."""
    return [
        _named(axis, board, boards)
        for board in boards
        for axis, factors in _by_axis(board).items()
        if len({board.tasks([variation]) for levels in factors for variation in levels.values()}) > 1
    ]


@dataclass(frozen=True, slots=True)
class Drop:
    """An arm under a variation, compared with itself on the same episodes unvaried.

    `p_holm` is adjusted for all variations of the arm on the suite; `errors` are its episodes, varied or not,
    that ended in one.
    """

    place: str
    arm: Arm
    result: PairedDifference | None
    estimate: Estimate | None
    p_holm: float | None
    errors: int = 0


def drops(boards: Sequence[Board], confidence: float) -> list[Drop]:
    """Every variation against the unvaried episodes, arm by arm; the difference is varied minus unvaried."""
    found: list[Drop] = []
    for board in boards:
        alone = [variation for levels in board.single().values() for variation in levels.values()]
        variations = [*alone, *board.compositions()]
        compared = {arm: _against_unvaried(board, arm, variations, confidence) for arm in board.arms}
        for variation in variations if "" in board.counts else ():
            place = _named(variation, board, boards)
            tasks = board.tasks([variation])
            for arm in board.arms:
                errors = sum(board.total(arm, name, tasks).errors for name in ("", variation))
                found.append(Drop(place, arm, *compared[arm][variation], errors))
    return found


def _against_unvaried(
    board: Board, arm: Arm, variations: Sequence[str], confidence: float
) -> dict[str, tuple[PairedDifference | None, Estimate | None, float | None]]:
    """Variation → its comparison with the unvaried episodes, its interval, and p after Holm over all."""
    unvaried = _succeeded(board, arm, "") if variations else {}
    results: dict[str, PairedDifference | None] = {}
    estimates: dict[str, Estimate | None] = {}
    for variation in variations:
        varied = _succeeded(board, arm, variation)
        shared = [start for start in varied if start in unvaried]
        outcomes = [varied[start] for start in shared], [unvaried[start] for start in shared]
        results[variation] = paired_difference(*outcomes)
        rng = generator("statistics", "drop", board.suite, variation, arm.key)
        of_tasks = [task_id for task_id, *_ in shared]
        estimates[variation] = paired_estimate(*outcomes, of_tasks, confidence, rng)
    adjusted = iter(holm([result.p_value for result in results.values() if result is not None]))
    return {
        variation: (result, estimates[variation], None if result is None else next(adjusted))
        for variation, result in results.items()
    }


def _succeeded(board: Board, arm: Arm, variation: str) -> dict[tuple[str, int | None, int | None], bool]:
    """Task, seed and init state → whether the arm succeeded on it under a variation; of those that count."""
    return {
        (episode.task_id, episode.seed, episode.init_state): record.status == "success"
        for by_arm in board.outcomes.get(variation, {}).values()
        for episode, record in by_arm[arm].counted.items()
    }


def _by_axis(board: Board) -> dict[str, list[dict[int, str]]]:
    """Axis → of each of its factors, level → variation."""
    found: dict[str, list[dict[int, str]]] = {}
    for factor, levels in board.single().items():
        found.setdefault(axis_of(factor), []).append(levels)
    return found


def _pooled(board: Board, arm: Arm, level: int, factors: Sequence[Mapping[int, str]]) -> Tally:
    """What an arm reached at a level of several factors; of the reference nothing where one lacks it."""
    variations = [levels[level] for levels in factors if level in levels]
    tallies = [board.total(arm, variation, board.tasks([variation])) for variation in variations]
    return Tally() if arm == REFERENCE and not all(tally.n for tally in tallies) else added(tallies)


def _named(name: str, board: Board, boards: Sequence[Board]) -> str:
    """A name of something on a suite; the suite is said where there are several."""
    return f"{name}, {board.suite}" if len(boards) > 1 else name


def _levels(places: Iterable[Place]) -> list[str]:
    return sorted({level for _, by_arm in places for cells in by_arm.values() for level in cells})


def _rollup(columns: Iterable[str], places: Iterable[Place]) -> Rollup:
    """Lines of the places where something was run, and the columns in which there is something."""
    lines = [
        Line(place, arm, cells)
        for place, by_arm in places
        if any(tally.tasks for cells in by_arm.values() for tally in cells.values())
        for arm, cells in by_arm.items()
        if arm != REFERENCE or any(tally.n for tally in cells.values())
    ]
    filled = {name for line in lines for name, tally in line.cells.items() if tally.tasks}
    return Rollup(tuple(name for name in columns if name in filled), tuple(lines))
