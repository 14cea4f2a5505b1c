"""Which variations of which tasks a study means: those that apply and are certified to be solvable."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from vla_bench import catalog
from vla_bench.axes.requirements import applicable, refusals
from vla_bench.axes.variation import expand, is_pattern
from vla_bench.bddl import read_problem
from vla_bench.catalog import Suite
from vla_bench.errors import VlaBenchError
from vla_bench.run.study import Study


@dataclass(frozen=True, slots=True)
class Omission:
    """A variation that a pattern names and that does not apply to a task."""

    task_id: str
    variation: str
    reason: str


Varied = list[tuple[Suite, str, tuple[str, ...]]]


def vary(
    study: Study, tasks: list[tuple[Suite, str]], problems: list[str]
) -> tuple[Varied, tuple[Omission, ...]]:
    """The tasks with their variations, and what of the study's patterns does not apply.

    What is written out must apply to every task; of what a pattern names, the rest is left out.
    """
    written: dict[str, bool] = {}
    for text in study.variations:
        with noting(problems):
            for variation in expand([text]):
                written[variation] = written.get(variation, False) or not is_pattern(text)
    omitted: list[Omission] = []
    refused: dict[str, list[tuple[str, str]]] = {}
    varied: Varied = []
    for suite, stem in tasks:
        chosen = list(written)
        if any(written):
            with noting(problems):
                task = suite.task(stem)
                problem, reasons = read_problem(task.bddl), {}
                for variation in written:
                    reasons[variation] = refusals(variation, task, problem)
                    for name, reason in reasons[variation].items():
                        omitted += [Omission(task.id, variation, f"{name}: {reason}")]
                        if written[variation]:
                            refused.setdefault(name, []).append((task.id, reason))
                chosen = [variation for variation in written if not reasons[variation]]
        varied.append((suite, stem, tuple(chosen)))
    problems += [_refusal(name, reasons, len(tasks)) for name, reasons in refused.items()]
    if written and not problems and not any(chosen for *_, chosen in varied):
        problems.append(f"none of its variations applies: {omitted[0].task_id}: {omitted[0].reason}")
    return varied, tuple(omitted)


def _refusal(name: str, reasons: list[tuple[str, str]], tasks: int) -> str:
    """Which tasks a written-out factor does not apply to, why, and what applies to the first of them."""
    ids, reason = list(dict(reasons)), reasons[0][1]
    many = f" and {len(ids) - 1} more of {tasks} tasks" if len(ids) > 1 else ""
    fitting = ", ".join(applicable(catalog.task(ids[0])))
    pattern = f"; a pattern such as {name.partition('.')[0]}.*@… leaves it out" if len(ids) < tasks else ""
    return f"{name} does not apply to {ids[0]}{many}: {reason}; what applies: {fitting}{pattern}"


@contextlib.contextmanager
def noting(problems: list[str]) -> Iterator[None]:
    """Collect a problem instead of stopping at the first."""
    try:
        yield
    except VlaBenchError as error:
        problems.append(str(error))
