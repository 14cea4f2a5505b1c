"""T4: weights × latency, and what a precision changes by its weights, by its timing, and by both together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from vla_bench import seeding
from vla_bench.account import timing
from vla_bench.account.counted import Counted
from vla_bench.account.effects import Fitted, adjusted, interaction_fit
from vla_bench.account.statistics import CrossedArm, CrossedEffect, crossed_effects
from vla_bench.account.tables.effects import (
    MODEL,
    model_numbers,
    model_texts,
    numbered,
    refusals,
    warnings_said,
)
from vla_bench.account.tables.table import (
    FEW_DIFFER,
    UNDEFINED,
    Number,
    Table,
    ends,
    few_differ_said,
    p_text,
    percent,
    points,
    points_interval,
    warned,
)
from vla_bench.account.timing import Scope
from vla_bench.types import Arm, Episode

ZERO = "zero"
MODELLED = "interaction, model"
EFFECTS = (
    "Of each precision p against the reference r, with the rate R(weights, latency): weights "
    "R(p, r) - R(r, r); timing R(r, p) - R(r, r); interaction R(p, p) - R(p, r) - R(r, p) + R(r, r); total "
    "R(p, p) - R(r, r), their sum. Timing, from zero: R(r, p) against the same weights without latency."
)
CLAIMS = (
    f"Where the reference's weights at zero latency succeed in less than {100 * timing.LEAST_RATE:g} % of "
    "the episodes, nothing is claimed."
)


@dataclass(frozen=True, slots=True)
class Crossing:
    """All arms of a policy on some episodes that differ in weights and latency alone.

    Attributes:
        common: What the arms have in common; its precision and latency are empty.
        arms: (weights, latency) by the precisions that they belong to → arm. A policy with one set of weights
            has those of the reference.
        zeros: Weights → arm at zero latency.
        episodes: Those that count for all.
        one_set: Whether the policy has one set of weights.
    """

    scope: Scope
    common: Arm
    arms: dict[CrossedArm, Arm]
    zeros: dict[str, Arm]
    episodes: list[Episode]
    one_set: bool

    def successes(self, arm: Arm) -> int:
        """How many of the episodes an arm succeeded in."""
        return sum(timing.succeeded(self.scope.outcomes, arm, self.episodes))


def tables(counted: Counted) -> Iterator[Table]:
    """`crossed` with the rates, `crossed_effects` with their split, for studies with a `[crossed]` table."""
    table = counted.header.study.get("crossed")
    if not table:
        return
    own: dict[str, str] = table["latencies"]
    crossings = [
        crossing
        for scope in timing.by_suite(counted)
        for crossing in _crossings(counted, scope, own, table["reference"])
    ]
    if crossings:
        yield _rates(crossings, own, table["reference"])
        yield _effects(counted, crossings, table["reference"])


def _crossings(counted: Counted, scope: Scope, own: dict[str, str], reference: str) -> Iterator[Crossing]:
    groups: dict[Arm, list[Arm]] = {}
    for arm in counted.arms:
        if scope.outcomes.get(arm):
            groups.setdefault(replace(arm, precision="", latency=""), []).append(arm)
    for common, arms in groups.items():
        weights = [precision for precision in own if any(arm.precision == precision for arm in arms)]
        one_set = len(weights) < 2
        if one_set and len({arm.precision for arm in arms}) > 1:
            continue
        named = {arm: reference if one_set else arm.precision for arm in arms}
        cells = {
            (named[arm], precision): arm
            for precision, latency in own.items()
            for arm in arms
            if arm.latency == latency and named[arm] in own
        }
        zeros = {named[arm]: arm for arm in arms if timing.latency_ms(counted.header, arm) == 0}
        if (reference, reference) in cells and len(cells) > 1:
            episodes = timing.shared(scope.outcomes, [*cells.values(), *zeros.values()])
            yield Crossing(scope, common, cells, zeros, episodes, one_set)


def _rates(crossings: Sequence[Crossing], own: dict[str, str], reference: str) -> Table:
    """The grid: a row for each set of weights, a column for each latency."""
    columns = ("zero", *own)
    rows: list[tuple[str, ...]] = []
    numbers: list[tuple[Number, ...]] = []
    for crossing in crossings:
        n = len(crossing.episodes)
        for weights in dict.fromkeys(w for w, _ in crossing.arms):
            arms = {"zero": crossing.zeros.get(weights)}
            arms |= {precision: crossing.arms.get((weights, precision)) for precision in own}
            k = {name: None if arm is None else crossing.successes(arm) for name, arm in arms.items()}
            said = "one set" if crossing.one_set else weights
            place = (crossing.scope.name, *_common(crossing))
            rows.append((*place, said, *(_rate(k[name], n) for name in columns)))
            numbers += [(*place, said, name, own.get(name, "zero"), k[name], n) for name in columns]
    return Table(
        name="crossed", title="Weights × latency",
        caption=(
            "Successes/episodes (rate %) with the weights of a row and the latency of a column, on the "
            "episodes that count for all of them.",
            f"Latencies: {'; '.join(f'{name}: {latency}' for name, latency in own.items())}.",
            *_one_set(crossings),
        ),
        header=("place", "policy", "pacing", "weights", *(f"latency {name}" for name in columns)),
        rows=tuple(rows), text_columns=4, bold=frozenset(),
        numbers_header=("place", "policy", "pacing", "weights", "latency_of", "latency", "successes", "n"),
        numbers=tuple(numbers),
    )  # fmt: skip


def _effects(counted: Counted, crossings: Sequence[Crossing], reference: str) -> Table:
    rows: list[tuple[str, ...]] = []
    numbers: list[tuple[Number, ...]] = []
    models = [_models(counted, crossing, reference) for crossing in crossings]
    reasons = numbered(fitted for own in models for fitted in own.values())
    sparse = False
    for crossing, own in zip(crossings, models, strict=True):
        place, refused = (crossing.scope.name, *_common(crossing)), _no_claim(crossing, reference)
        if refused:
            rows.append((*place, UNDEFINED, refused, str(len(crossing.episodes)), *(UNDEFINED,) * 4))
            continue
        for kind, effect in _found(counted, crossing, reference):
            rows.append((*place, effect.precision, kind, *_texts(effect)))
            numbers.append((*place, effect.precision, kind, *_numbers(effect)))
            sparse |= bool(effect.estimate.warning)
            if kind == "interaction" and (fitted := own.get(effect.precision)):
                rows.append(
                    (*place, effect.precision, MODELLED, str(effect.n), *model_texts(fitted, reasons))
                )
                *told, method, warning, why = model_numbers(fitted)
                test = why or "Student's t"
                numbers.append((*place, effect.precision, MODELLED, effect.n, *told, method, test, warning))
    return Table(
        name="crossed_effects",
        title=f"What a precision changes against {reference}: weights, timing, interaction",
        caption=(
            EFFECTS, CLAIMS,
            f"In points, with {100 * counted.confidence:g} % intervals from the bootstrap of episodes within "
            "tasks; p from sign flips of the episodes (exact McNemar's but for the interaction); Holm's "
            "correction is over the split of a place and policy, and over its effects from zero.",
            *([few_differ_said()] if sparse else []),
            *([f"{MODELLED}: the same of all episodes of the four cells. {MODEL}"] if any(models) else []),
            *refusals(reasons, "the paired numbers above it"),
            *warnings_said(fitted for own in models for fitted in own.values()),
            *_one_set(crossings),
        ),
        header=(
            "place", "policy", "pacing", "precision", "effect", "episodes", "points", "interval", "p",
            "p Holm",
        ),
        rows=tuple(rows), text_columns=5, bold=frozenset(),
        numbers_header=(
            "place", "policy", "pacing", "precision", "effect", "episodes", "difference", "low", "high", "p",
            "p_holm", "interval_method", "test", "warning",
        ),
        numbers=tuple(numbers),
    )  # fmt: skip


def _texts(effect: CrossedEffect) -> tuple[str, ...]:
    estimate = effect.estimate
    return (
        str(effect.n), points(estimate.value),
        warned(points_interval(estimate.interval), estimate.warning, FEW_DIFFER), p_text(effect.p_value),
        p_text(effect.p_holm),
    )  # fmt: skip


def _numbers(effect: CrossedEffect) -> tuple[Number, ...]:
    estimate = effect.estimate
    return (
        effect.n, estimate.value, *ends(estimate.interval), effect.p_value, effect.p_holm, estimate.method,
        effect.test, estimate.warning,
    )  # fmt: skip


def _models(counted: Counted, crossing: Crossing, reference: str) -> dict[str, Fitted]:
    """Each precision's interaction by a model, where its four cells were run and something is claimed."""
    if _no_claim(crossing, reference):
        return {}
    found: dict[str, Fitted] = {}
    for precision in dict.fromkeys(weights for weights, _ in crossing.arms if weights != reference):
        cells = list(product((reference, precision), (reference, precision)))
        if all(cell in crossing.arms for cell in cells):
            arms = {cell: crossing.arms[cell] for cell in cells}
            found[precision] = interaction_fit(crossing.scope, arms, crossing.episodes, counted.confidence)
    return dict(zip(found, adjusted(list(found.values())), strict=True))


def _found(counted: Counted, crossing: Crossing, reference: str) -> Iterator[tuple[str, CrossedEffect]]:
    """The split against the reference, then what each latency costs the reference's weights against none."""
    own = {latency: arm for (weights, latency), arm in crossing.arms.items() if weights == reference}
    from_zero = {(ZERO, latency): arm for latency, arm in {ZERO: crossing.zeros[reference], **own}.items()}
    for effect in _effects_of(counted, crossing, crossing.arms, reference):
        yield effect.kind, effect
    for effect in _effects_of(counted, crossing, from_zero, ZERO):
        yield "timing, from zero", effect


def _effects_of(
    counted: Counted, crossing: Crossing, arms: Mapping[CrossedArm, Arm], reference: str
) -> list[CrossedEffect]:
    outcomes = {
        cell: [float(won) for won in timing.succeeded(crossing.scope.outcomes, arm, crossing.episodes)]
        for cell, arm in arms.items()
    }
    tasks = [f"{episode.task_id}|{episode.variation}" for episode in crossing.episodes]
    key = (counted.header.study_hash, crossing.scope.name, crossing.common.key, reference)
    rng = seeding.generator("statistics", "crossed", *key)
    return crossed_effects(outcomes, tasks, reference, counted.confidence, rng)


def _no_claim(crossing: Crossing, reference: str) -> str:
    zero = crossing.zeros.get(reference)
    return timing.no_claim(None if zero is None else crossing.successes(zero), len(crossing.episodes))


def _common(crossing: Crossing) -> tuple[str, str]:
    chunk = crossing.common.chunk_executed
    return crossing.common.policy, crossing.common.pacing + ("" if chunk is None else f", chunk {chunk}")


def _rate(successes: int | None, n: int) -> str:
    if successes is None or n == 0:
        return UNDEFINED
    return f"{successes}/{n} ({percent(successes / n)})"


def _one_set(crossings: Sequence[Crossing]) -> Iterator[str]:
    for policy in dict.fromkeys(c.common.policy for c in crossings if c.one_set):
        yield f"{policy} was run with one set of weights: all that changes is timing."
