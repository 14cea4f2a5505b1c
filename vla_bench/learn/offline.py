"""Offline accuracy: a policy answers stored observations, at several precisions; nothing is simulated.

Answers are compared with the demonstrated actions and with those of the first precision, the reference.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_bench import seeding
from vla_bench.errors import ConventionError, DataError
from vla_bench.learn import agreement
from vla_bench.learn.agreement import Answers
from vla_bench.learn.demonstrations import Demonstration, Demonstrations, check_fit
from vla_bench.policy.base import Policy, PolicySpec, TokenPolicy, precision_report
from vla_bench.policy.cards import load_policy
from vla_bench.types import Array, Observation, PrecisionReport

NO_TOKENS = "its actions are not tokens: it has no action_logits"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        policy: Name, or `name:argument`.
        precisions: The first is the reference.
        episodes: How many of the data set, from its first; None for all.
        every: Of an episode's observations, every how many-th.
        forced: Teacher forcing: each token follows those of the demonstration instead of the policy's own.

    Raises:
        ConventionError: No precision is named, or one twice.
    """

    policy: str
    precisions: tuple[str, ...]
    episodes: int | None = None
    every: int = 1
    forced: bool = False

    def __post_init__(self) -> None:
        if not self.precisions or len(set(self.precisions)) < len(self.precisions):
            raise ConventionError(
                f"{self.policy}: name each precision once, the reference first; got {list(self.precisions)}"
            )


@dataclass(frozen=True, slots=True)
class ArmReport:
    """One precision.

    Attributes:
        precision: Its name.
        observations: How many were answered.
        to_demonstration: Number of the action → mean absolute difference, in the unit of its name.
        to_reference: The same to the reference's answers; None for the reference.
        tokens: Accuracy and agreement of tokens; empty without tokens.
        absent: Why `tokens` is empty.
        applied: What the precision came to in the model that answered.
    """

    precision: str
    observations: int
    to_demonstration: dict[str, float]
    to_reference: dict[str, float] | None
    tokens: dict[str, Any] = field(default_factory=dict)
    absent: str | None = None
    applied: PrecisionReport | None = None


def measure(
    question: Question, demonstrations: Demonstrations, on_answer: Callable[[str], None] = lambda arm: None
) -> list[ArmReport]:
    """Let every precision answer, one after the other, and report each.

    Args:
        question: What is asked.
        demonstrations: What is answered.
        on_answer: Called with the precision after each answer.

    Raises:
        ConventionError: Policy and data do not fit.
        MissingCapabilityError: The policy does not run at a precision.
        DataError: The data are damaged, or their actions are not finite.
    """
    reports: list[ArmReport] = []
    reference: Answers | None = None
    for precision in question.precisions:
        found, applied = _answers(question, precision, demonstrations, lambda p=precision: on_answer(p))
        report = _report(question, precision, demonstrations, found, reference)
        reports.append(replace(report, applied=applied))
        reference = reference or found
    return reports


def observations_in(question: Question, demonstrations: Demonstrations) -> int:
    """How many observations one precision has to answer."""
    chosen = islice(demonstrations, question.episodes)
    return sum(-(-len(episode.actions) // question.every) for episode in chosen)


def _answers(
    question: Question, precision: str, demonstrations: Demonstrations, on_answer: Callable[[], None]
) -> tuple[Answers, PrecisionReport | None]:
    policy = load_policy(question.policy, precision)
    try:
        check_fit(demonstrations, policy.spec, question.policy)
        rows: list[dict[str, Any]] = []
        for number, episode in enumerate(islice(demonstrations, question.episodes)):
            for row in _answer_episode(policy, episode, demonstrations, question):
                rows.append({"episode": number, **row})
                on_answer()
    finally:
        # a model leaves the device before the next one comes
        autoregressive, applied = getattr(policy, "autoregressive", False), precision_report(policy)
        del policy
        gc.collect()
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return Answers(**columns, autoregressive=autoregressive), applied


def _answer_episode(
    policy: Policy, episode: Demonstration, demonstrations: Demonstrations, question: Question
) -> Iterator[dict[str, Any]]:
    actions = episode.actions
    if not np.isfinite(actions).all():
        raise DataError(demonstrations.source, f"{episode.key} holds actions that are not finite numbers")
    policy.reset(
        episode.instruction, int(seeding.generator("policy", "offline", episode.key).integers(2**63))
    )
    histories = _histories(episode, policy.spec, demonstrations)
    for index, history in enumerate(histories):
        if index % question.every == 0:
            shown = _upcoming(actions, index, policy.spec.chunk_length)
            yield _answer(policy, history, shown, forced=question.forced)


def _answer(policy: Policy, history: list[Observation], shown: Array, *, forced: bool) -> dict[str, Any]:
    if not hasattr(policy, "action_logits"):
        return {"actions": policy.act(history).actions, "shown": shown}
    speaker: TokenPolicy = policy  # type: ignore[assignment]
    # beyond the end of the episode there is nothing to say; the last action stands in and does not count
    wanted = speaker.encode_actions(_filled(shown))
    said = speaker.action_logits(history, wanted if forced else None)
    return {
        "actions": said.actions, "shown": shown, "tokens": said.tokens, "shown_tokens": wanted,
        "log_probs": said.log_probs,
    }  # fmt: skip


def _histories(
    episode: Demonstration, spec: PolicySpec, demonstrations: Demonstrations
) -> Iterator[list[Observation]]:
    """The history that the spec asks for at each instant; the first one stands in for those before it."""
    steps = _stride(spec, demonstrations)
    kept: deque[Observation] = deque(maxlen=(spec.history - 1) * steps + 1)
    for seen in episode.observations(spec.cameras):
        kept.append(seen)
        newest = len(kept) - 1
        yield [kept[max(0, newest - age * steps)] for age in reversed(range(spec.history))]


def _stride(spec: PolicySpec, demonstrations: Demonstrations) -> int:
    """Observations of the data from one to the next of a history."""
    if spec.history == 1:
        return 1
    steps = spec.history_stride_s * demonstrations.conventions.fps
    if steps < 1 - 1e-6 or abs(steps - round(steps)) > 1e-6:
        raise ConventionError(
            f"the policy wants observations every {spec.history_stride_s} s, {demonstrations.source} has "
            f"{demonstrations.conventions.fps:g} a second"
        )
    return round(steps)


def _upcoming(actions: Array, index: int, length: int) -> Array:
    """(T, A) the actions from `index` on, NaN beyond the end."""
    shown = np.full((length, actions.shape[1]), np.nan)
    rest = actions[index : index + length]
    shown[: len(rest)] = rest
    return shown


def _filled(shown: Array) -> Array:
    last = int(np.flatnonzero(~np.isnan(shown[:, 0]))[-1])
    return shown[np.minimum(np.arange(len(shown)), last)]


def _report(
    question: Question,
    precision: str,
    demonstrations: Demonstrations,
    found: Answers,
    reference: Answers | None,
) -> ArmReport:
    units = demonstrations.conventions.units
    scale = np.array(list(units.values()))

    def named(values: Array) -> dict[str, float]:
        return dict(zip(units, values.tolist(), strict=True))

    to_reference = None
    if reference is not None:
        to_reference = named(agreement.distance(found.actions, reference.actions, scale))
    return ArmReport(
        precision,
        len(found.actions),
        to_demonstration=named(agreement.distance(found.actions, found.shown, scale)),
        to_reference=to_reference,
        tokens={} if found.tokens is None else _tokens(found, reference, list(units), question),
        absent=NO_TOKENS if found.tokens is None else None,
    )


def _tokens(
    found: Answers, reference: Answers | None, names: list[str], question: Question
) -> dict[str, Any]:
    assert found.tokens is not None
    accuracy, numbers = agreement.token_accuracy(found)
    said = {
        "accuracy": _plain(accuracy),
        "accuracy_by_number": {name: _plain(number) for name, number in zip(names, numbers, strict=True)},
        "exact_match": _plain(agreement.exact_match(found.tokens, found.shown_tokens, found)),
    }
    if reference is None:
        return said
    first = agreement.first_divergence(reference, found)
    diverged: NDArray[np.bool_] = first >= 0
    kl, compared = agreement.divergence(reference, found, forced=question.forced)
    everything = np.ones(found.tokens.shape, bool)
    return said | {
        "agreement": _plain(agreement.share(found.tokens == reference.tokens, everything, found.episode)),
        "diverged": _plain(agreement.share(diverged, np.ones_like(diverged), found.episode)),
        "first_divergence": np.bincount(first[diverged], minlength=found.tokens[0].size).tolist(),
        "kl_nats": kl,
        "kl_tokens": compared,
    }


def _plain(found: agreement.Share) -> dict[str, Any]:
    return {"value": found.value, **asdict(found)}
