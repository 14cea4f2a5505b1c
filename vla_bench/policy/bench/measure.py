"""Times a policy and the plain road to the same actions, in turns, and compares both with the roofline."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vla_bench.errors import MissingCapabilityError
from vla_bench.policy.base import Policy, precision_report
from vla_bench.policy.bench.machine import Machine, measured
from vla_bench.policy.bench.scene import histories
from vla_bench.policy.bench.timing import (
    Latencies,
    agreement,
    forget_peak,
    free,
    out_of_memory,
    quantiles,
    read_peak_gb,
    speedup,
    timed,
    timed_parts,
    wait,
    whole_to_parts,
)
from vla_bench.policy.cards import Card, build_policy, factory
from vla_bench.policy.precision import backend
from vla_bench.policy.profile import Profile, profile
from vla_bench.types import Observation

# Calls of each contender that are not counted: they set up libraries, caches and graphs.
WARM_UP = 3
# Scenes that calls go through in turn, so that no two calls in a row see the same.
SCENES = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """A policy at one precision and size of batch.

    Attributes:
        error: Why there is nothing more; None where it was measured.
        load_s: Building the policy, from files or random numbers to the device.
        random_weights: The weights are made up: only speed and memory mean anything.
        weights_gb: Of all weights as they are stored, as the policy reports it; None where it does not.
        quantised: Share of the parameters that is quantised; None where the policy does not report it.
        peak_gb: Most device memory while it acted, weights included; None on a processor.
        latency_ms: Phase → quantiles over the calls; `total` is everything from observation to command.
        policy_hz: 1 / median total: calls a second.
        actions_per_s: Actions of all episodes of the batch, by the same median.
        plain_ms: As `latency_ms`, of the plain road; empty where the policy has none.
        speedup: Phase (`total`, `inference`) → median over rounds of plain / ours.
        parts_ms: As `latency_ms`, of the parts' plain forward passes, one after the other; empty where the
            policy does not tell them.
        whole_to_parts: Median over rounds of the policy's total / that of the parts.
        same_actions: Share of numbers in which the actions of both are equal.
        machine: Rates of the device, where the policy tells its work.
        ideal_ms: Phase → roofline; `inference` is their sum.
        of_roofline: Ideal / median inference.
        facts: What else the policy told.
        calls: Contender → milliseconds by phase of every counted call.
    """

    policy: str
    precision: str
    batch: int
    device: str = ""
    error: str | None = None
    random_weights: bool = False
    load_s: float | None = None
    weights_gb: float | None = None
    quantised: float | None = None
    peak_gb: float | None = None
    latency_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    policy_hz: float | None = None
    actions_per_s: float | None = None
    plain_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    speedup: Mapping[str, float] = field(default_factory=dict)
    parts_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    whole_to_parts: float | None = None
    same_actions: float | None = None
    machine: Machine | None = None
    ideal_ms: Mapping[str, float] = field(default_factory=dict)
    of_roofline: float | None = None
    facts: Mapping[str, str | float] = field(default_factory=dict)
    calls: Mapping[str, Latencies] = field(default_factory=dict)


def with_random_weights(card: Card) -> Card:
    """Return the card with made-up weights, for families that can make them up: their option `weights`.

    Raises:
        MissingCapabilityError: The policy has no weights.
    """
    source = card.checkpoint
    named = card.options.get("checkpoint")
    if source.folder is None and source.repo is None and source.url is None and named is None:
        raise MissingCapabilityError(f"policy {card.name!r} has no weights that could be made up")
    return card.model_copy(update={"options": {**card.options, "weights": "random"}})


def bench(card: Card, precisions: Sequence[str], batches: Sequence[int], *, rounds: int) -> Iterator[Cell]:
    """Yield one cell after the other; a policy is loaded once for each precision.

    What this machine, the card or its memory lacks is said in a cell's `error`.

    Args:
        card: Of the policy.
        precisions: To be loaded in turn.
        batches: Numbers of episodes that are served at once.
        rounds: Counted calls of each contender; they take turns.

    Raises:
        UnknownNameError: There is no such precision anywhere; nothing has been loaded then.
    """
    for precision in precisions:
        if precision not in card.precisions:  # a server's has no backend here
            backend(precision)
    factory(card)  # importing it takes seconds, which are not loading
    made_up = card.options.get("weights") == "random"
    for precision in precisions:
        named = Cell(card.name, precision, 0, random_weights=made_up)
        began = time.perf_counter()
        try:
            policy = build_policy(card, precision)
        except MissingCapabilityError as error:
            yield from (replace(named, batch=batch, error=str(error)) for batch in batches)
            continue
        told = profile(policy)
        wait(told.device)
        loaded = replace(named, device=told.device, load_s=time.perf_counter() - began)
        if told.work is not None:
            loaded = replace(loaded, machine=measured(told.device, told.dtype))
        for batch in batches:
            empty = replace(loaded, batch=batch)
            try:
                yield _fill(empty, policy, told, rounds)
            except (MissingCapabilityError, *out_of_memory(told.device)) as error:
                yield replace(empty, error=str(error).splitlines()[0])
        del policy, told
        free()


def _fill(cell: Cell, policy: Policy, told: Profile, rounds: int) -> Cell:
    """Measure one size of batch."""
    scenes = [histories(policy.spec, cell.batch, scene) for scene in range(SCENES)]
    contenders = {"policy": policy} | ({} if told.plain is None else {"plain": told.plain})
    peak_gb = _warm_up(contenders, scenes, told.device)
    parts = [] if told.parts is None else [told.parts(scene) for scene in scenes]
    for each in parts:
        timed_parts(each, told.device)
    calls: dict[str, Latencies] = {name: [] for name in contenders}
    if parts:
        calls["parts"] = []
    same: list[float] = []
    for turn in range(rounds):
        answers = {}
        for name, each in contenders.items():
            answers[name], spent = timed(each, scenes[turn % SCENES], told.device)
            calls[name].append(spent)
        if parts:
            calls["parts"].append(timed_parts(parts[turn % SCENES], told.device))
        if "plain" in answers:
            same.append(agreement(answers["policy"], answers["plain"]))
    latency_ms, report = quantiles(calls["policy"]), precision_report(policy)
    calls_per_s = 1e3 / latency_ms["total"]["p50"]
    ideal_ms = _roofline(told, cell.machine, scenes[0])
    return replace(
        cell,
        weights_gb=None if report is None else report.bytes / 1e9,
        quantised=None if report is None else report.share,
        peak_gb=peak_gb,
        latency_ms=latency_ms,
        policy_hz=calls_per_s,
        actions_per_s=calls_per_s * cell.batch * policy.spec.chunk_length,
        plain_ms=quantiles(calls.get("plain", [])),
        speedup=speedup(calls),
        parts_ms=quantiles(calls.get("parts", [])),
        whole_to_parts=whole_to_parts(calls),
        same_actions=float(np.mean(same)) if same else None,
        ideal_ms=ideal_ms,
        of_roofline=ideal_ms["inference"] / latency_ms["inference"]["p50"] if ideal_ms else None,
        facts=dict(told.facts()),
        calls=calls,
    )


def _warm_up(
    contenders: Mapping[str, Policy], scenes: list[list[list[Observation]]], device: str
) -> float | None:
    """Call everyone a few times; returns the most memory that the policy itself took, in GB."""
    peak_gb = None
    for name, policy in contenders.items():
        policy.reset(scenes[0][0][-1].instruction, 0)
        forget_peak(device)
        for turn in range(WARM_UP):
            timed(policy, scenes[turn % SCENES], device)
        if name == "policy":
            peak_gb = read_peak_gb(device)
    return peak_gb


def _roofline(told: Profile, machine: Machine | None, batch: list[list[Observation]]) -> dict[str, float]:
    """What each phase would take at best, in milliseconds, and `inference`, their sum."""
    if told.work is None or machine is None:
        return {}
    ideal_ms = {name: machine.ideal_ms(work) for name, work in told.work(batch).items()}
    return {**ideal_ms, "inference": sum(ideal_ms.values())}
