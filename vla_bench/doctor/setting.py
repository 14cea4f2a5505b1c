"""What can be compared without asking the policy much: its declarations, its card, and the task."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla_bench.doctor.checks import Check
from vla_bench.doctor.pairs import Evidence
from vla_bench.errors import ConventionError
from vla_bench.policy.base import AdjustablePolicy, Choice, Policy, is_adjustable
from vla_bench.policy.cards import Card
from vla_bench.run.conventions import check_card, check_conventions
from vla_bench.run.rollout import PolicyFailure, Rollout
from vla_bench.types import Array, Episode, Simulation

STEPS = 20
# share of the demonstrator's way that a policy should go in its first steps
LITTLE = 0.1
# a number of an action that hardly varies says nothing about its range
_UNUSED = 0.02


def fit(policy: Policy, card: Card, simulation: Simulation) -> Iterator[Check]:
    """Compare what the policy declares with its card and with the task."""
    spec, task = policy.spec, simulation.task
    try:
        check_card(policy, card)
        check_conventions(simulation, policy, card.name)
    except ConventionError as error:
        yield Check("fit", "broken", str(error))
        return
    yield Check("fit", "good", f"cameras, proprioception and size of the action fit {task.id}")
    protocol = task.observation_height_px, task.observation_width_px
    if spec.cameras and spec.image_px != protocol:
        sizes = ["×".join(map(str, size)) for size in (spec.image_px, protocol)]
        yield Check(
            "pictures", "note", f"it wants {sizes[0]} pixels, the protocol of {task.suite} has {sizes[1]}"
        )
    hz = 1.0 / task.policy_period_s
    if spec.control_hz is not None and abs(spec.control_hz - hz) > 1e-6 * hz:
        yield Check(
            "frequency",
            "note",
            f"it was trained on actions at {spec.control_hz:g} Hz, {task.suite} takes {hz:g} Hz",
        )
    published = sorted({number.suite for number in card.reference})
    if published and task.suite not in published:
        yield Check(
            "suite",
            "note",
            f"its published numbers are of {', '.join(published)}, this task is of {task.suite}",
        )


def ranges(policy: Policy, evidence: Evidence, suite: str) -> Iterator[Check]:
    """Compare the range that each table of statistics spans with what was done."""
    if not is_adjustable(policy):
        return
    for choice in policy.choices():
        if choice.topic == "normalisation" and choice.others:
            yield _range(policy, choice, evidence)
        if choice.topic == "normalisation" and (named := _named_for(suite, choice)):
            text = f"{choice.option} is {choice.declared!r}, and there are statistics called {named!r}"
            yield Check("normalisation", "note", text)


def _range(policy: AdjustablePolicy, choice: Choice, evidence: Evidence) -> Check:
    low, high = np.percentile(evidence.done[:, :-1], (1, 99), axis=0)
    used = high - low > _UNUSED

    def reach(value: object) -> float:
        size = evidence.done.shape[1]
        ends = policy.with_option(choice.option, value).commands(
            np.stack([np.full(size, -1.0), np.ones(size)])
        )
        widths = np.abs(ends[1] - ends[0])[:-1][used]
        return float(np.exp(np.log(np.maximum(widths, 1e-9) / (high - low)[used]).mean()))

    own = reach(choice.declared)
    reaches = {str(value): reach(value) for value in choice.others}
    nearest = min(reaches, key=lambda value: abs(np.log(reaches[value])))
    is_far = abs(np.log(own)) > np.log(evidence.pace) > abs(np.log(reaches[nearest]))
    return Check(
        "normalisation",
        "note" if is_far else "good",
        f"{choice.option} = {choice.declared!r} spans {own:.2g} times the range of {evidence.source}; of "
        f"{len(reaches)} other tables {nearest!r} comes nearest, {reaches[nearest]:.2g} times",
    )


def _named_for(suite: str, choice: Choice) -> str:
    """The table of statistics that carries the suite's name, if another one is used."""
    names = (suite, f"{suite}_no_noops")
    if choice.declared in names:
        return ""
    return next((name for name in names if name in choice.others), "")


def first_steps(
    policy: Policy, expert: Policy, simulation: Simulation, episode: Episode, chunk: int
) -> Check:
    """Let the policy and the expert take a few steps from one start, and compare how far the hand goes."""
    try:
        own = _way(policy, simulation, episode, chunk)
    except PolicyFailure as failure:
        return Check("first steps", "broken", f"{failure.cause}: {failure}")
    theirs = _way(expert, simulation, episode, 1)
    return Check(
        "first steps",
        "note" if own < LITTLE * theirs else "good",
        f"in {STEPS} steps of {episode.key} the hand goes {own:.2f} m, the expert's {theirs:.2f} m",
    )


def _way(policy: Policy, simulation: Simulation, episode: Episode, chunk: int) -> float:
    """Length of the hand's way in the first steps (m)."""
    simulation.reset(episode)
    policy.reset(simulation.observe().instruction, 0)
    run = Rollout(simulation, policy, chunk_executed=chunk)
    run.start()
    places: list[Array] = [simulation.observe().proprio["robot0_eef_pos"]]
    while run.steps < STEPS and not run.ended:
        actions = run.infer()[:chunk]
        for index, action in enumerate(actions):
            run.step(action)
            places.append(simulation.observe().proprio["robot0_eef_pos"])
            if run.ended or run.steps == STEPS:
                break
            run.look_ahead(len(actions) - 1 - index, len(actions))
    return float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())
