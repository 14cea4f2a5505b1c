"""Which variations of which tasks a study means: those that apply and are certified to be solvable."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vla_bench import catalog
from vla_bench.axes import certificates
from vla_bench.axes.requirements import applicable, refusals
from vla_bench.axes.variation import expand, is_pattern
from vla_bench.bddl import read_problem
from vla_bench.catalog import Suite
from vla_bench.errors import VlaBenchError
from vla_bench.run.study import Study
from vla_bench.types import Task


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
    """The tasks with their variations, and what of the study's patterns is left out.

    What is written out must apply to every task and be certified for it; of what a pattern names, the rest is
    left out.
    """
    written: dict[str, bool] = {}
    for text in study.variations:
        with noting(problems):
            for variation in expand([text]):
                written[variation] = written.get(variation, False) or not is_pattern(text)
    if not any(written):
        return [(suite, stem, tuple(written)) for suite, stem in tasks], ()
    omitted: list[Omission] = []
    refused: dict[tuple[str, str], list[tuple[str, str]]] = {}  # (kind, name) → (task, reason)
    varied: Varied = []
    for suite, stem in tasks:
        chosen = list(written)
        with noting(problems):
            task = suite.task(stem)
            reasons = _reasons(study, task, written)
            for (variation, kind, name), reason in reasons.items():
                omitted.append(Omission(task.id, variation, f"{name}: {reason}"))
                if written[variation]:
                    refused.setdefault((kind, name), []).append((task.id, reason))
            chosen = [v for v in written if v not in {variation for variation, *_ in reasons}]
        varied.append((suite, stem, tuple(chosen)))
    problems += [_SENTENCES[kind](name, reasons, len(tasks)) for (kind, name), reasons in refused.items()]
    if written and not problems and not any(chosen for *_, chosen in varied):
        problems.append(f"none of its variations is left: {omitted[0].task_id}: {omitted[0].reason}")
    return varied, tuple(omitted)


def _reasons(study: Study, task: Task, variations: Iterable[str]) -> dict[tuple[str, str, str], str]:
    """(variation, kind of refusal, what is refused) → why."""
    problem = read_problem(task.bddl)
    reasons: dict[tuple[str, str, str], str] = {}
    for variation in variations:
        unfit = refusals(variation, task, problem)
        reasons |= {(variation, "unfit", name): reason for name, reason in unfit.items()}
        if not unfit and study.uncertified == "refuse":
            reason = certificates.refused(task, variation)
            if reason is not None:
                reasons[variation, "uncertified", variation] = f"not certified: {reason}"
    return reasons


def _unfit(name: str, reasons: list[tuple[str, str]], tasks: int) -> str:
    """Which tasks a written-out factor does not apply to, why, and what applies to the first of them."""
    ids, reason = list(dict(reasons)), reasons[0][1]
    many = f" and {len(ids) - 1} more of {tasks} tasks" if len(ids) > 1 else ""
    fitting = ", ".join(applicable(catalog.task(ids[0])))
    pattern = f"; a pattern such as {name.partition('.')[0]}.*@… leaves it out" if len(ids) < tasks else ""
    return f"{name} does not apply to {ids[0]}{many}: {reason}; what applies: {fitting}{pattern}"


def _uncertified(name: str, reasons: list[tuple[str, str]], tasks: int) -> str:
    """For which tasks a written-out variation is not certified, why, and what can be done."""
    first, reason = reasons[0]
    many = f" and {len(reasons) - 1} more of {tasks} tasks" if len(reasons) > 1 else ""
    return (
        f"{name} on {first}{many} is {reason}; vla-bench certify --task {first} --vary '{name}' measures it, "
        f'--uncertified (uncertified = "run" in a study) runs it all the same'
    )


_SENTENCES = {"unfit": _unfit, "uncertified": _uncertified}


@contextlib.contextmanager
def noting(problems: list[str]) -> Iterator[None]:
    """Collect a problem instead of stopping at the first."""
    try:
        yield
    except VlaBenchError as error:
        problems.append(str(error))
