"""Runs a plan: simulates, acts, appends one record an item; running again continues."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vla_bench import catalog, seeding
from vla_bench.errors import ConventionError, MissingCapabilityError
from vla_bench.policy.base import Policy, continues_chunks, precision_report
from vla_bench.policy.cards import Card, load_policy, read_card
from vla_bench.run.latency import LatencySource, latency_source, phase_ticks
from vla_bench.run.latency.measuring import measured_trace
from vla_bench.run.outcomes import not_played
from vla_bench.run.pacing import parse_pacing
from vla_bench.run.plan import Plan, PlanError, WorkItem
from vla_bench.run.provenance import now
from vla_bench.run.records import Loaded, Record, RecordWriter, RunHeader, done_keys, open_run
from vla_bench.run.rollout import Rollout, check_chunk, play
from vla_bench.run.timing import too_late
from vla_bench.run.video import Video
from vla_bench.types import Arm, CameraView, Episode, Observation, Simulation, Task

OnRecord = Callable[[Record], None]


def run_plan(plan: Plan, folder: Path, header: RunHeader, on_record: OnRecord = lambda record: None) -> int:
    """Run what is not done yet and return the number of new records.

    Conventions of every policy are compared with every suite's before the first episode. The episodes of a
    policy that this machine cannot run at a precision are errors, as long as another can be run. Ctrl-C
    leaves complete records.

    Raises:
        ConventionError: A policy and a suite do not fit.
        MissingCapabilityError: This machine can run none of the policies.
        VlaBenchError: The folder holds something else, cannot be written, or a policy cannot be loaded.
    """
    with contextlib.closing(_Stage(plan)) as stage:
        stage.preflight()
        header = open_run(folder, _with_loaded(header, stage.loaded()))
        stage.measure(folder)
        fingerprint = header.sessions[-1].fingerprint
        done = done_keys(folder)
        todo = [item for item in plan.items if item.key not in done]
        with RecordWriter(folder) as writer:
            for item in todo:
                record = stage.run(item, folder, fingerprint)
                writer.append(record)
                on_record(record)
    return len(todo)


class _Stage:
    """The simulation of the current task and the policies, kept between items."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._hash = plan.study.hash
        self._policies: dict[tuple[str, str], Policy] = {}
        self._lacking: dict[tuple[str, str], MissingCapabilityError] = {}
        self._simulation: Simulation | None = None
        self._sources: dict[tuple[str, str, str], LatencySource] = {}
        self._filmed = _filmed_keys(plan)

    def preflight(self) -> None:
        """Load every policy and let each act once in the first task of each suite.

        Raises:
            ConventionError: A policy does not fit its card or a suite.
            MissingCapabilityError: This machine can run none of them.
        """
        pairs = dict.fromkeys((arm.policy, arm.precision) for arm in self._plan.study.arms)
        first: dict[str, WorkItem] = {}
        for item in self._plan.items:
            first.setdefault(item.episode.task_id.partition("/")[0], item)
        for item in first.values():
            simulation = self._simulate(item.task())
            simulation.reset(item.episode)
            for name, precision in [pair for pair in pairs if pair not in self._lacking]:
                try:
                    policy = self._policy(name, precision)
                    check_card(policy, read_card(name))
                    check_conventions(simulation, policy, name)
                    _try_one_action(simulation, policy, name, item.episode)
                except MissingCapabilityError as error:
                    self._lacking[name, precision] = error
        if len(self._lacking) == len(pairs):
            raise next(iter(self._lacking.values()))
        for arm in self._arms():
            check_capability(arm, self._policy(arm.policy, arm.precision))

    def loaded(self) -> tuple[Loaded, ...]:
        """What the precisions of the loaded policies came to."""
        found = ((name, precision_report(policy)) for (name, _), policy in self._policies.items())
        return tuple(Loaded(policy=name, report=report) for name, report in found if report is not None)

    def measure(self, folder: Path) -> None:
        """Make every arm's delays known; those of this machine are recorded, unless the folder has them.

        Raises:
            PlanError: What was measured is too slow for a pacing.
        """
        for arm in self._arms():
            source = latency_source(arm.latency) or self._measured(arm, folder)
            self._sources[arm.policy, arm.precision, arm.latency] = source
            pacing, card = parse_pacing(arm.pacing), read_card(arm.policy)
            executed = arm.chunk_executed or card.chunk_executed
            names = dict.fromkeys(item.episode.task_id.partition("/")[0] for item in self._plan.items)
            for suite in map(catalog.suite, names):
                if late := too_late(pacing, source, executed, card, arm.latency, suite):
                    raise PlanError(self._plan.study, [late])

    def _measured(self, arm: Arm, folder: Path) -> LatencySource:
        first = self._plan.items[0]
        simulation, policy = self._simulate(first.task()), self._policy(arm.policy, arm.precision)
        simulation.reset(first.episode)
        policy.reset(simulation.observe().instruction, policy_seed(first.episode))
        return measured_trace(
            folder / "latencies" / f"{_file_name(f'{arm.policy}-{arm.precision}')}.parquet",
            policy, arm.policy, arm.precision, _observe(simulation, policy), {"task": first.episode.task_id},
        )  # fmt: skip

    def _arms(self) -> list[Arm]:
        """The arms that can be run."""
        return [arm for arm in self._plan.study.arms if (arm.policy, arm.precision) not in self._lacking]

    def run(self, item: WorkItem, folder: Path, fingerprint: str | None) -> Record:
        """Run one item.

        A scene that cannot be built, or a policy that cannot run here, is an error of its episodes, not of
        the run.
        """
        started = now()
        return Record.of(
            **self._outcome(item, folder), arm=item.arm, episode=item.episode, task=item.task(),
            study_hash=self._hash, key=item.key, worker="0", started_at=started, fingerprint=fingerprint,
        )  # fmt: skip

    def _outcome(self, item: WorkItem, folder: Path) -> dict[str, Any]:
        if lacking := self._lacking.get((item.arm.policy, item.arm.precision)):
            return not_played(lacking)
        try:
            simulation = self._simulate(item.task())
        except Exception as error:
            return not_played(error)
        return self._play(item, simulation, folder)

    def _play(self, item: WorkItem, simulation: Simulation, folder: Path) -> dict[str, Any]:
        arm = item.arm
        run = Rollout(
            simulation,
            self._policy(arm.policy, arm.precision),
            chunk_executed=arm.chunk_executed or read_card(arm.policy).chunk_executed,
            delays=self._sources[arm.policy, arm.precision, arm.latency].delays(item.episode.key),
        )
        if self._plan.study.phase == "drawn":
            run.phase_ticks = phase_ticks(item.episode.key, run.ticks_per_step)
        if item.key not in self._filmed:
            return play(run, item.episode, arm.pacing, policy_seed(item.episode))
        name = f"{item.episode.key}#{arm.policy}-{arm.precision}-{item.key[:6]}"
        with Video(folder / "videos" / f"{_file_name(name)}.mp4", simulation) as video:
            run.on_step = video.add_frame
            outcome = play(run, item.episode, arm.pacing, policy_seed(item.episode))
            if outcome["status"] != "success" or self._plan.study.outputs.video != "failures":
                kept = video.keep()
                outcome["video"] = None if kept is None else str(kept.relative_to(folder))
        return outcome

    def close(self) -> None:
        """Release the simulation."""
        if self._simulation is not None:
            self._simulation.close()
            self._simulation = None

    def _simulate(self, task: Task) -> Simulation:
        if self._simulation is None or self._simulation.task != task:
            from vla_bench.axes.simulation import open_simulation

            self.close()
            self._simulation = open_simulation(task)
        return self._simulation

    def _policy(self, name: str, precision: str) -> Policy:
        if (name, precision) not in self._policies:
            self._policies[name, precision] = load_policy(name, precision)
        return self._policies[name, precision]


def _with_loaded(header: RunHeader, loaded: tuple[Loaded, ...]) -> RunHeader:
    """The header whose last session says what was loaded."""
    *before, last = header.sessions
    return header.model_copy(update={"sessions": (*before, last.model_copy(update={"loaded": loaded}))})


def _filmed_keys(plan: Plan) -> set[str]:
    """Keys of the items that are filmed: of the plan, so that an interrupted run films the same ones."""
    wanted = plan.study.outputs.video
    most = {"none": 0, "failures": len(plan.items), "all": len(plan.items)}.get(str(wanted), wanted)
    filmed: dict[str, list[str]] = {}
    for item in plan.items:
        filmed.setdefault(item.arm.key, []).append(item.key)
    return {key for keys in filmed.values() for key in keys[: int(most)]}


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


def _observe(simulation: Simulation, policy: Policy) -> Observation:
    """What a policy sees of a simulation."""
    views = [CameraView(name, *policy.spec.image_px) for name in policy.spec.cameras]
    return simulation.observe(views, privileged=policy.spec.privileged)


def _try_one_action(simulation: Simulation, policy: Policy, name: str, episode: Episode) -> None:
    """Let the policy act once, so that a wrong shape is found before any episode runs."""
    policy.reset(simulation.observe().instruction, policy_seed(episode))
    chunk = policy.act([_observe(simulation, policy)] * policy.spec.history)
    try:
        check_chunk(simulation, policy, np.asarray(chunk.actions))
    except ConventionError as error:
        raise ConventionError(f"policy {name!r}: {error}") from error


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in text)
