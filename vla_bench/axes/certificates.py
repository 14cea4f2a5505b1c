"""Certificates of feasibility: that a varied task can still be solved, seen, and means what it says.

`vla-bench certify` measures them; one CSV file a suite, `tasks/certificates/<suite>.csv`, ships with the
project. A certificate holds for the task and factor files that it was measured on: when they change, it is
void.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from vla_bench import catalog
from vla_bench.axes.variation import parse
from vla_bench.errors import DataError
from vla_bench.types import Task

FOLDER = "certificates"
GOOD_GOALS = ("same", "declared")
LOWEST = 0.7  # what the lower end of the 95 % Wilson interval must reach


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was measured of one task under one variation, on seeds of the `certify` namespace.

    Attributes:
        task: Id.
        variation: Canonical; "" is the unvaried task.
        n: Draws.
        solved: Draws that the scripted expert solved; it is privileged, so this is a reference and no bound.
        seen: Draws in which the policy's camera shows what the goal names about as the unvaried task does.
        target_px: Pixels of the least visible thing that the goal names, median over the draws.
        goal: `same`, `declared` (changed as the factor's file says) or what is wrong with it.
        reason: What happened in the draws that were not solved or seen.
        fingerprint: Engine.
        content: Digest of the files that it was measured on.
    """

    task: str
    variation: str
    n: int
    solved: int
    seen: int
    target_px: int
    goal: str
    reason: str
    fingerprint: str
    content: str

    @property
    def certified(self) -> bool:
        """Whether solved and seen often enough, with the goal that was meant."""
        return not self.shortcomings

    @property
    def shortcomings(self) -> tuple[str, ...]:
        """Why it is not certified."""
        found = [] if self.goal in GOOD_GOALS else [f"its goal: {self.goal}"]
        if lower(self.solved, self.n) < LOWEST:
            found.append(f"the expert solves {self.solved} of {self.n}")
        if lower(self.seen, self.n) < LOWEST:
            found.append(f"the camera shows what the goal names in {self.seen} of {self.n}")
        return tuple(found)


@functools.cache
def lower(successes: int, n: int) -> float:
    """Lower end of the 95 % Wilson score interval."""
    if n == 0:
        return 0.0
    from scipy.stats import binomtest

    return float(binomtest(successes, n).proportion_ci(0.95, method="wilson").low)


def refused(task: Task, variation: str) -> str | None:
    """Why a variation of a task is not certified; None if it is, or if nothing is varied."""
    if not variation:
        return None
    found = certificates(task.suite).get((task.id, variation))
    if found is None:
        return "no certificate"
    if found.content != content_digest(task, variation):
        return "its certificate is of other files than these"
    if found.certified:
        return None
    return "; ".join(found.shortcomings) + (f" ({found.reason})" if found.reason else "")


def certificate(task: Task, variation: str) -> Certificate | None:
    """What was measured of a task under a variation, passed or not; None if nothing, or on other files."""
    found = certificates(task.suite).get((task.id, variation))
    return found if found is not None and found.content == content_digest(task, variation) else None


def certificates(suite: str) -> Mapping[tuple[str, str], Certificate]:
    """The certificates of a suite by (task id, variation); those of folders given by the user come first.

    Raises:
        DataError: A file is broken.
    """
    found: dict[tuple[str, str], Certificate] = {}
    for folder in reversed(catalog.data_folders("tasks")):
        path = folder / FOLDER / f"{suite}.csv"
        if path.is_file():
            found |= _read(path, path.stat().st_mtime_ns)
    return found


def content_digest(task: Task, variation: str) -> str:
    """Digest of what the certificate of a variation depends on: the task's file and the factors' numbers."""
    numbers = _numbers(variation, tuple(catalog.data_folders("tasks")))
    return hashlib.sha256(_file(task.bddl, task.bddl.stat().st_mtime_ns) + numbers).hexdigest()[:8]


@functools.lru_cache(maxsize=1024)
def _file(path: Path, changed_ns: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


@functools.lru_cache(maxsize=4096)
def _numbers(variation: str, folders: tuple[Path, ...]) -> bytes:
    words = {"source", "title", "changes", "provenance"}
    return "".join(
        f"{level}{factor.model_dump_json(exclude=words)}" for factor, level in parse(variation)
    ).encode()


def write(path: Path, rows: Iterable[Certificate]) -> None:
    """Replace a file of certificates at once; the order is that of tasks and variations' names.

    Raises:
        DataError: It cannot be written.
    """
    names = [field.name for field in dataclasses.fields(Certificate)]
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(dataclasses.asdict(row) for row in rows)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text.getvalue())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(path, f"cannot be written: {error.strerror}") from error


def read(path: Path) -> Mapping[tuple[str, str], Certificate]:
    """Read one file of certificates; none if it is not there.

    Raises:
        DataError: It is broken; names the line.
    """
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else {}


@functools.lru_cache(maxsize=16)
def _read(path: Path, changed_ns: int) -> Mapping[tuple[str, str], Certificate]:
    names = [field.name for field in dataclasses.fields(Certificate)]
    model = TypeAdapter(Certificate)
    found: dict[tuple[str, str], Certificate] = {}
    with path.open(newline="") as file:
        table = csv.DictReader(file)
        if list(table.fieldnames or ()) != names:
            raise DataError(path, f"has columns {table.fieldnames}, expected {names}")
        for line in table:
            try:
                row = model.validate_python(line)
            except ValidationError as error:
                said = error.errors()[0]
                raise DataError(path, f"{said['loc'][0]}: {said['msg']}", line=table.line_num) from error
            found[row.task, row.variation] = row
    return found
