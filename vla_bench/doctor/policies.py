"""`vla-bench doctor --policy X --task Y`: everything that is looked at, in order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from vla_bench.axes.simulation import build_simulation
from vla_bench.doctor.alternatives import alternatives
from vla_bench.doctor.conventions import Diagnosis, diagnose, questions, require_episodes, require_pictures
from vla_bench.doctor.pairs import from_demonstrations, from_expert, select_episode
from vla_bench.doctor.setting import first_steps, fit, ranges
from vla_bench.errors import ConventionError
from vla_bench.policy.base import Policy
from vla_bench.policy.cards import Card, load_policy
from vla_bench.types import Task

# Tells how many answers are expected, and returns what is to be called after each.
Progress = Callable[[int], Callable[[], None]]


def examine_policy(
    policy: Policy,
    card: Card,
    task: Task,
    *,
    demos: Path | None,
    episodes: int,
    pairs: int,
    progress: Progress,
) -> Diagnosis:
    """Find out whether a policy's conventions are what its card says.

    Args:
        policy: Loaded.
        card: Its card.
        task: One that it should be able to do.
        demos: Demonstrations of the task; without, the scripted expert's.
        episodes: How many of them are used.
        pairs: How many instants of each.
        progress: See `Progress`.

    Raises:
        ConventionError: It does not fit the task, looks at no picture, or the episodes are too few.
        MissingDataError: There are too few demonstrations.
    """
    require_pictures(policy)
    require_episodes(episodes, len(alternatives(policy)))
    with closing(build_simulation(task, namespace="select")) as simulation:
        episode = select_episode(task, 0)
        simulation.reset(episode)
        checks = list(fit(policy, card, simulation))
        if wrong := [check.text for check in checks if check.verdict == "broken"]:
            raise ConventionError("; ".join(wrong))
        checks.append(first_steps(policy, load_policy("expert"), simulation, episode, card.chunk_executed))
    if demos is None:
        evidence = from_expert(task, policy.spec, episodes, pairs)
    else:
        evidence = from_demonstrations(demos, task, policy.spec, episodes, pairs, name=card.name)
    checks += ranges(policy, evidence, task.suite)
    found = diagnose(policy, evidence, progress(questions(policy, evidence)))
    return replace(found, checks=(*checks, *found.checks))
