"""What is done once before the first episode: conventions are compared, latencies measured."""

from __future__ import annotations

from pathlib import Path

from vla_bench import catalog
from vla_bench.errors import MissingCapabilityError
from vla_bench.policy import hub
from vla_bench.policy.base import precision_report
from vla_bench.policy.cards import read_card
from vla_bench.policy.profile import profile
from vla_bench.run.conventions import (
    check_capability,
    check_card,
    check_conventions,
    check_frequency,
    observe,
    policy_seed,
    try_one_action,
)
from vla_bench.run.hosting import Hosting
from vla_bench.run.keeper import PAUSES_S
from vla_bench.run.latency import latency_source
from vla_bench.run.latency.measuring import Measure, known_source, measure
from vla_bench.run.pacing import parse_pacing
from vla_bench.run.plan import Plan, PlanError, WorkItem
from vla_bench.run.provenance import device_used
from vla_bench.run.records import Loaded, Session
from vla_bench.run.stage import Pair, Policies, Scene
from vla_bench.run.timing import too_late
from vla_bench.run.weights import file_digests
from vla_bench.types import Arm


class Preparation:
    """Looks at the policies and suites of a plan before anything is recorded.

    Args:
        plan: What will be run.
        policies: Who will act.
        hosting: The policies that have a process of their own.

    Attributes:
        lacking: Policies that this machine cannot run, and why.
        loaded: What the precisions of the policies came to.
    """

    def __init__(self, plan: Plan, policies: Policies, hosting: Hosting) -> None:
        self._plan, self._policies, self._hosting = plan, policies, hosting
        self._scene = Scene(plan.study.namespace)
        self.lacking: dict[Pair, MissingCapabilityError] = {}
        self.loaded: tuple[Loaded, ...] = ()
        self._taken: dict[str, list[hub.Taken]] = {}

    def compare(self) -> None:
        """Load every policy and let each act once in the first task of each suite.

        Raises:
            ConventionError: A policy does not fit its card or a suite.
            MissingCapabilityError: This machine can run none of them, or not as a pacing wants it; or the
                process of one dies whenever it is asked.
        """
        pairs = dict.fromkeys((arm.policy, arm.precision) for arm in self._plan.study.arms)
        first: dict[str, WorkItem] = {}
        for item in self._plan.items:
            first.setdefault(item.episode.task_id.partition("/")[0], item)
        for item in first.values():
            for name, precision in [pair for pair in pairs if pair not in self.lacking]:
                try:
                    self._persist(item, name, precision)
                except MissingCapabilityError as error:
                    if self._policies.is_elsewhere(name, precision):
                        raise  # it was loaded: this machine can run it
                    self.lacking[name, precision] = error
        if len(self.lacking) == len(pairs):
            raise next(iter(self.lacking.values()))
        for arm in self._arms():
            check_capability(arm, self._policies.get(arm.policy, arm.precision))
        self.loaded = self._loaded(pairs)

    def described(self, session: Session) -> Session:
        """The session, with what was loaded: precisions, checkpoints, and the device that computes."""
        pairs = dict.fromkeys((arm.policy, arm.precision) for arm in self._arms())
        used = device_used(profile(self._policies.get(*pair)).device for pair in pairs)
        used |= self._hosting.device
        found = {**self._taken, **self._hosting.taken}
        checkpoints = {name: file_digests(taken) for name, taken in found.items() if taken}
        versions = session.versions | used.pop("versions", {})
        return session.model_copy(
            update={"loaded": self.loaded, "checkpoints": checkpoints, "versions": versions, **used}
        )

    def measure(self, folder: Path) -> None:
        """Make every arm's delays known; those of this machine are recorded, unless the folder has them.

        Raises:
            PlanError: What was measured is too slow for a pacing.
        """
        names = dict.fromkeys(item.episode.task_id.partition("/")[0] for item in self._plan.items)
        for arm in self._arms():
            if latency_source(arm.latency) is None:
                self._measure(arm, folder)
            source, card = known_source(arm, folder), read_card(arm.policy)
            executed = arm.chunk_executed or card.chunk_executed
            for suite in map(catalog.suite, names):
                late = too_late(parse_pacing(arm.pacing), source, executed, card, arm.latency, suite)
                if late:
                    raise PlanError(self._plan.study, [late])

    def close(self) -> None:
        """Release what was needed to look."""
        self._scene.close()

    def _persist(self, item: WorkItem, name: str, precision: str) -> None:
        """Compare, again if need be: a policy in a process of its own comes back, or says why not."""
        from vla_bench.policy.remote.exchange import LostServerError

        for _ in PAUSES_S:
            try:
                self._compare(item, name, precision)
                return
            except LostServerError:
                if not self._policies.is_elsewhere(name, precision):
                    raise
        self._compare(item, name, precision)

    def _compare(self, item: WorkItem, name: str, precision: str) -> None:
        simulation = self._scene.of(item.task())
        simulation.reset(item.episode)
        with hub.noting() as taken:
            policy = self._policies.get(name, precision)
        self._taken.setdefault(name, []).extend(taken)
        check_card(policy, read_card(name))
        check_conventions(simulation, policy, name)
        check_frequency(simulation.task, policy, name)
        try_one_action(simulation, policy, name, item.episode)

    def _loaded(self, pairs: dict[Pair, None]) -> tuple[Loaded, ...]:
        """What the precisions of the policies came to."""
        found = (
            (pair[0], precision_report(self._policies.get(*pair)))
            for pair in pairs
            if pair not in self.lacking
        )
        return tuple(Loaded(policy=name, report=report) for name, report in found if report is not None)

    def _measure(self, arm: Arm, folder: Path) -> None:
        first = self._plan.items[0]
        simulation = self._scene.of(first.task())
        simulation.reset(first.episode)
        policy = self._policies.get(arm.policy, arm.precision)
        asked = Measure(
            arm, folder, simulation.observe().instruction, policy_seed(first.episode),
            observe(simulation, policy), {"task": first.episode.task_id},
        )  # fmt: skip
        if not self._hosting.measure(asked):
            measure(asked, policy)

    def _arms(self) -> list[Arm]:
        """The arms that can be run."""
        return [arm for arm in self._plan.study.arms if (arm.policy, arm.precision) not in self.lacking]
