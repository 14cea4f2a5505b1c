"""What a policy, its card, a suite and a pacing declare, compared before the first episode."""

from __future__ import annotations

import numpy as np

from vla_bench import seeding
from vla_bench.errors import ConventionError, MissingCapabilityError
from vla_bench.policy.base import Policy, continues_chunks
from vla_bench.policy.cards import Card
from vla_bench.run.pacing import parse_pacing
from vla_bench.run.rollout import check_chunk
from vla_bench.types import Arm, CameraView, Episode, Observation, Simulation, Task


def policy_seed(episode: Episode) -> int:
    """Seed of everything random in a policy during an episode: the same for every arm."""
    return int(seeding.generator("policy", episode.key).integers(2**63))


def check_card(policy: Policy, card: Card) -> None:
    """Compare what a policy declares with what its card says, which plans and sessions go by.

    Raises:
        ConventionError: They differ; all differences are named.
    """
    spec = policy.spec
    sides = {
        "chunk_predicted": (card.chunk_predicted, spec.chunk_length),
        "action_convention": (card.action_convention, spec.action_convention),
        "privileged": (card.privileged, spec.privileged),
        "blind": (card.blind, card.blind and not spec.cameras),
    }
    differing = [
        f"{key} is {said}, the policy declares {does}" for key, (said, does) in sides.items() if said != does
    ]
    if differing:
        raise ConventionError(f"{card.source}: {'; '.join(differing)}")


def check_conventions(simulation: Simulation, policy: Policy, name: str) -> None:
    """Compare what a policy declares with what the simulation offers.

    Raises:
        ConventionError: They differ; all differences are named.
    """
    spec, task = policy.spec, simulation.task
    problems: list[str] = []
    if spec.action_size != simulation.action_size:
        problems.append(
            f"its actions have shape (T, {spec.action_size}), the task takes (T, {simulation.action_size})"
        )
    if spec.action_convention != task.action_convention:
        problems.append(
            f"its actions are {spec.action_convention!r}, the task takes {task.action_convention!r}"
        )
    absent = sorted(set(spec.cameras) - set(simulation.cameras))
    if absent:
        problems.append(f"it needs cameras {absent}, the task has {sorted(simulation.cameras)}")
    offered = simulation.observe().proprio
    missing = sorted(set(spec.proprio) - set(offered))
    if missing:
        problems.append(f"it needs proprioception {missing}, the task has {sorted(offered)}")
    if problems:
        raise ConventionError(f"policy {name!r} does not fit {task.id}: {'; '.join(problems)}")


def check_frequency(task: Task, policy: Policy, name: str) -> None:
    """See that a policy's actions are as long as the task's policy period.

    Raises:
        ConventionError: They are made for another frequency.
    """
    made_hz, taken_hz = policy.spec.control_hz, 1 / task.policy_period_s
    if made_hz is not None and abs(made_hz - taken_hz) > 1e-6 * taken_hz:
        raise ConventionError(
            f"policy {name!r} does not fit {task.id}: its actions are made for {made_hz:g} Hz (control_hz of "
            f"its card), the task takes {taken_hz:g} a second"
        )


def check_capability(arm: Arm, policy: Policy) -> None:
    """See that a policy can do what the pacing of its arm asks of it.

    Raises:
        MissingCapabilityError: It cannot.
    """
    if parse_pacing(arm.pacing).merge == "rtc" and not continues_chunks(policy):
        raise MissingCapabilityError(
            f"pacing {arm.pacing!r} hands a policy what is left of its last chunk; {arm.policy!r} cannot "
            f"continue one (it has no act_continuing); use chunk_async, or chunk_async@ensemble"
        )


def observe(simulation: Simulation, policy: Policy) -> Observation:
    """What a policy sees of a simulation."""
    views = [CameraView(name, *policy.spec.image_px) for name in policy.spec.cameras]
    return simulation.observe(views, privileged=policy.spec.privileged)


def try_one_action(simulation: Simulation, policy: Policy, name: str, episode: Episode) -> None:
    """Let the policy act once, so that a wrong shape is found before any episode runs."""
    policy.reset(simulation.observe().instruction, policy_seed(episode))
    chunk = policy.act([observe(simulation, policy)] * policy.spec.history)
    try:
        check_chunk(simulation, policy, np.asarray(chunk.actions))
    except ConventionError as error:
        raise ConventionError(f"policy {name!r}: {error}") from error
