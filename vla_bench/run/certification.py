"""Certification of many cells on many processes; what is known is not measured again."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from vla_bench import catalog
from vla_bench.axes import certificates
from vla_bench.axes.certificates import Certificate, content_digest
from vla_bench.axes.requirements import refusals
from vla_bench.axes.variation import parse
from vla_bench.bddl import read_problem
from vla_bench.run.certify import Examiner, decided
from vla_bench.spawning import leave_signals_to_main
from vla_bench.types import Task

Cell = tuple[str, str]  # task id, variation


@dataclass(frozen=True, slots=True)
class Unit:
    """Cells that one process examines in a row: those of one task and the same factors."""

    task: str
    variations: tuple[str, ...]
    seeds: int


def folder_of(suite: str) -> Path:
    """Where a suite's certificates belong: beside the file that declares it."""
    return catalog.suite(suite).source.parent / certificates.FOLDER


def missing(
    tasks: Sequence[Task], variations: Sequence[str], seeds: int, known: dict[Cell, Certificate]
) -> list[Unit]:
    """The units to be examined, task by task: cells that apply and that no certificate decides yet."""
    units: list[Unit] = []
    for task in tasks:
        problem = read_problem(task.bddl)
        groups: dict[tuple[str, ...], list[str]] = {}
        for variation in variations:
            if not refusals(variation, task, problem) and not _is_known(task, variation, seeds, known):
                key = tuple(factor.id for factor, _ in parse(variation))
                groups.setdefault(key, []).append(variation)
        units += [Unit(task.id, tuple(group), seeds) for group in groups.values()]
    return units


def _is_known(task: Task, variation: str, seeds: int, known: dict[Cell, Certificate]) -> bool:
    found = known.get((task.id, variation))
    if found is None or found.content != content_digest(task, variation):
        return False
    return found.n >= seeds or (bool(variation) and decided(found.n, found.solved, found.seen, seeds))


def examine(units: Sequence[Unit], workers: int) -> Iterator[list[Certificate]]:
    """Examine units on some processes and yield the certificates of each as soon as they are there.

    Results do not depend on the number of processes. Leaving the iterator early stops them.
    """
    if workers == 1:
        yield from map(_examine, units)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=leave_signals_to_main)
    waiting, queue = set[Future[list[Certificate]]](), iter(units)
    try:
        while True:
            for unit in queue:
                waiting.add(pool.submit(_examine, unit))
                if len(waiting) > workers:
                    break
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_examiners: dict[str, Examiner] = {}  # the last task's, in each process


def _examine(unit: Unit) -> list[Certificate]:
    if unit.task not in _examiners:
        for examiner in _examiners.values():
            examiner.close()
        _examiners.clear()
        _examiners[unit.task] = Examiner(catalog.task(unit.task))
    return [_examiners[unit.task].examine(variation, unit.seeds) for variation in unit.variations]


class Register:
    """The certificates of some suites, written whenever some were added.

    Args:
        suites: Names.
        folder: Where the files are, one a suite; None is beside each suite.
    """

    def __init__(self, suites: Sequence[str], folder: Path | None = None) -> None:
        self._paths = {name: (folder or folder_of(name)) / f"{name}.csv" for name in suites}
        self.known: dict[Cell, Certificate] = {}
        for path in self._paths.values():
            self.known |= certificates.read(path)

    def add(self, rows: Sequence[Certificate]) -> None:
        """Add certificates and write the files that they belong to.

        Raises:
            DataError: A file cannot be written.
        """
        self.known |= {(row.task, row.variation): row for row in rows}
        for name in {row.task.partition("/")[0] for row in rows}:
            certificates.write(self._paths[name], self._sorted(name))

    def _sorted(self, suite: str) -> list[Certificate]:
        stems = {f"{suite}/{stem}": place for place, stem in enumerate(catalog.suite(suite).stems())}
        rows = [row for row in self.known.values() if row.task in stems]
        return sorted(rows, key=lambda row: (stems[row.task], _order(row.variation)))


def _order(variation: str) -> tuple[tuple[str, int], ...]:
    with contextlib.suppress(Exception):  # a factor that is gone: its certificates sort by name
        return tuple((factor.id, level) for factor, level in parse(variation))
    return ((variation, 0),)
