"""Effects by a model of all episodes (GEE): of axes, and of precision × pacing beside the paired numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vla_bench.account import effects
from vla_bench.account.counted import Counted
from vla_bench.account.effects import Fitted, Interaction
from vla_bench.account.statistics import Estimate
from vla_bench.account.tables.table import (
    ARM_COLUMNS,
    FEW_DIFFER,
    FEW_TASKS,
    UNDEFINED,
    Number,
    Table,
    arm_numbers,
    constant_columns,
    ends,
    few_differ_said,
    few_tasks_said,
    p_text,
    points,
    points_interval,
    shown_columns,
    warned,
)

MODEL = (
    "Model: logistic GEE of all episodes, exchangeable within tasks, as risk differences; bias-reduced "
    "covariance (Mancl and DeRouen) and Student's t with tasks − coefficients degrees of freedom, for tasks "
    "are few: its claim is about tasks like these."
)
_NUMBERS = ("difference", "low", "high", "p", "p_holm", "method", "warning", "refused")


def of_axes(counted: Counted) -> Iterator[Table]:
    """`axis_effects`, by arm."""
    found = list(effects.axis_effects(counted))
    if not found:
        return
    arms = [one.arm for one in found]
    shown, reasons = shown_columns(arms), numbered(one.fitted for one in found)
    sentences = (
        "What an axis changes, in points: unvaried tasks that test it against those of the other axes; all "
        "factors of the axis at a level against the same tasks unvaried, each episode with the same weight"
        f"{constant_columns(arms, shown)}.",
        MODEL, "Holm's correction is over the axes of an arm on a suite.",
        *refusals(reasons, "the rates of `task_axes` and `factor_axes` and the paired `factor_drops`"),
        *warnings_said(one.fitted for one in found),
    )  # fmt: skip
    yield Table(
        name="axis_effects", title="What an axis changes", caption=tuple(filter(None, sentences)),
        header=(
            "suite", *shown, "axis", "against", "episodes", "points", _interval_heading(counted), "p",
            "p Holm",
        ),
        rows=tuple(
            (
                one.suite, *(ARM_COLUMNS[c](one.arm) for c in shown), one.axis, one.base, str(one.fitted.n),
                *model_texts(one.fitted, reasons),
            )
            for one in found
        ),
        text_columns=3 + len(shown), bold=frozenset(),
        numbers_header=("suite", *ARM_COLUMNS, "axis", "against", "episodes", *_NUMBERS),
        numbers=tuple(
            (
                one.suite, *arm_numbers(one.arm), one.axis, one.base, one.fitted.n,
                *model_numbers(one.fitted),
            )
            for one in found
        ),
    )  # fmt: skip


def of_precision_and_pacing(counted: Counted) -> Iterator[Table]:
    """`interactions`, where a policy was run at several precisions and pacings."""
    found = list(effects.interactions(counted))
    if not found:
        return
    reasons = numbered(one.fitted for one in found)
    sentences = (
        "How much more a precision changes under a pacing than under the first one, in points: "
        "R(precision, pacing) - R(precision, first pacing) - R(reference, pacing) + R(reference, first "
        "pacing), over the episodes that count for all four.",
        "Paired: bootstrap of episodes within tasks, p from sign flips of the episodes; about these tasks.",
        MODEL, "Holm's correction of the model's p is over the interactions of a place.",
        *refusals(reasons, "the paired numbers beside"),
        few_differ_said() if any(one.paired.estimate.warning for one in found) else "",
        *warnings_said(one.fitted for one in found),
    )  # fmt: skip
    interval = _interval_heading(counted)
    yield Table(
        name="interactions", title="Precision × pacing", caption=tuple(filter(None, sentences)),
        header=(
            "place", "policy", "chunk", "latency", "precision", "pacing", "episodes", "points", interval, "p",
            "model", f"model's {interval}", "model's p", "p Holm",
        ),
        rows=tuple(
            (
                one.place, *_arms(one), str(one.paired.n), points(one.paired.estimate.value),
                _interval(one.paired.estimate, FEW_DIFFER), p_text(one.paired.p_value),
                *model_texts(one.fitted, reasons),
            )
            for one in found
        ),
        text_columns=6, bold=frozenset(),
        numbers_header=(
            "place", "policy", "chunk", "latency", "precision", "pacing", "episodes", "paired_difference",
            "paired_low", "paired_high", "paired_p", "paired_method", "paired_warning", *_NUMBERS,
        ),
        numbers=tuple((one.place, *_arms(one), *_paired(one), *model_numbers(one.fitted)) for one in found),
    )  # fmt: skip


def _arms(one: Interaction) -> tuple[str, ...]:
    common = one.common
    chunk = ARM_COLUMNS["chunk"](common)
    pair = (f"{names[1]} against {names[0]}" for names in (one.precisions, one.pacings))
    return (common.policy, chunk, common.latency, *pair)


def _paired(one: Interaction) -> tuple[Number, ...]:
    estimate = one.paired.estimate
    return (
        one.paired.n, estimate.value, *ends(estimate.interval), one.paired.p_value, estimate.method,
        estimate.warning,
    )  # fmt: skip


def model_texts(fitted: Fitted, reasons: dict[str, int]) -> tuple[str, ...]:
    """Points, interval, p and p after Holm; or which of the reasons refused the model."""
    if fitted.effect is None or fitted.p_holm is None:
        return (UNDEFINED, f"none ({reasons[fitted.refused]})", *(UNDEFINED,) * 2)
    estimate = fitted.effect.estimate
    return (
        points(estimate.value), points_interval(estimate.interval),
        warned(p_text(fitted.effect.p_value), estimate.warning, FEW_TASKS), p_text(fitted.p_holm),
    )  # fmt: skip


def model_numbers(fitted: Fitted) -> tuple[Number, ...]:
    """The columns `_NUMBERS` of an effect."""
    if fitted.effect is None:
        return (*(None,) * 5, "", "", fitted.refused)
    estimate = fitted.effect.estimate
    return (
        estimate.value, *ends(estimate.interval), fitted.effect.p_value, fitted.p_holm, estimate.method,
        estimate.warning, "",
    )  # fmt: skip


def _interval(estimate: Estimate, mark: str) -> str:
    return warned(points_interval(estimate.interval), estimate.warning, mark)


def _interval_heading(counted: Counted) -> str:
    return f"{100 * counted.confidence:g} % interval"


def warnings_said(found: Iterable[Fitted]) -> Iterator[str]:
    """What the mark of models that warn means, where one does."""
    if any(fitted.effect and fitted.effect.estimate.warning for fitted in found):
        yield few_tasks_said()


def numbered(found: Iterable[Fitted]) -> dict[str, int]:
    """Every reason for which a model was refused, with a number."""
    reasons = dict.fromkeys(fitted.refused for fitted in found if fitted.refused)
    return {reason: number for number, reason in enumerate(reasons, start=1)}


def refusals(reasons: dict[str, int], instead: str) -> Iterator[str]:
    """What the numbers mean, and what is to be read where there is no model."""
    if reasons:
        told = "; ".join(f"({number}) {reason}" for reason, number in reasons.items())
        yield f"No model: {told}. There {instead} hold."
