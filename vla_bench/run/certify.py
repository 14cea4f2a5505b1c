"""Certification: the scripted expert tries varied tasks, and a camera counts what it sees of them.

Draws are whole cells: the seeds 0, 1, 2 … of the `certify` namespace, none of them left out. A cell stops at
the first look at which it is decided: certified, or no longer able to be. That is a little kinder than a
fixed n: `certify_probability` says how kind.

What only changes looks or words leaves the physics as it was, so its draws are episodes that have been
played already; they are recognised by their digest and not played twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from vla_bench.axes import scenery
from vla_bench.axes.certificates import LOWEST, Certificate, content_digest, lower
from vla_bench.axes.goals import check_goal
from vla_bench.axes.simulation import VariedSimulation, build_simulation
from vla_bench.axes.variation import parse
from vla_bench.errors import PlacementError
from vla_bench.policy.cards import load_policy
from vla_bench.run.rollout import Rollout, play
from vla_bench.sim import fingerprint
from vla_bench.sim.outline import Outline
from vla_bench.sim.sameness import outline_digest, physics_digest
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import CameraView, Episode, Task

LOOKS = (9, 15, 21, 30, 50)
_LEAST_PX = 12  # fewer pixels of a thing are not seen
_HIDDEN = 0.5  # share of the pixels it has in the unvaried episode below which a small thing is hidden


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw: how the expert's episode ended, and pixels by name of what the goal names."""

    ending: str
    px: Mapping[str, int]
    seen: bool


_SOLVED = "solved"


class Examiner:
    """Examines variations of one task; keeps its simulation and what it has played.

    Raises:
        VlaBenchError: The task's files cannot be used.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._simulation: VariedSimulation = build_simulation(task, namespace="certify")
        self._expert = load_policy("expert")
        self._outline = Outline(self._simulation.current)
        self._engine = str(fingerprint.take(views=0))
        self._endings: dict[str, str] = {}
        self._outlines: dict[str, Mapping[str, int]] = {}
        self._unvaried: dict[int, Mapping[str, int]] = {}

    def examine(self, variation: str, seeds: int) -> Certificate:
        """Measure one cell on at most `seeds` draws; the unvaried task has all of them."""
        draws: list[Draw] = []
        looks = [look for look in LOOKS if look < seeds] if variation else []
        for look in (*looks, seeds):
            draws += [self._draw(variation, seed) for seed in range(len(draws), look)]
            if decided(look, _solved(draws), _seen(draws), seeds):
                break
        return self._certificate(variation, draws)

    def close(self) -> None:
        """Release the simulation."""
        self._outline.close()
        self._simulation.close()

    def _certificate(self, variation: str, draws: Sequence[Draw]) -> Certificate:
        pixels = sorted(min(draw.px.values(), default=0) for draw in draws)
        reasons = Counter(d.ending for d in draws if d.ending != _SOLVED)
        reasons["hidden"] = sum(not draw.seen for draw in draws if draw.px)
        return Certificate(
            task=self.task.id,
            variation=variation,
            n=len(draws),
            solved=_solved(draws),
            seen=_seen(draws),
            target_px=pixels[len(pixels) // 2],
            goal=_goal(self.task, variation),
            reason=", ".join(f"{count} {reason}" for reason, count in reasons.most_common() if count),
            fingerprint=self._engine,
            content=content_digest(self.task, variation),
        )

    def _draw(self, variation: str, seed: int) -> Draw:
        if seed not in self._unvaried:
            self._simulation.reset(Episode(self.task.id, "", seed=seed))
            self._unvaried[seed] = self._pixels()
        episode = Episode(self.task.id, variation, seed=seed)
        try:
            self._simulation.reset(episode)
        except PlacementError:
            return Draw("no feasible draw", {}, seen=False)
        px = self._pixels()
        before = self._unvaried[seed]
        seen = all(count >= min(_LEAST_PX, _HIDDEN * before.get(name, 0)) for name, count in px.items())
        return Draw(self._ending(episode), px, seen)

    def _ending(self, episode: Episode) -> str:
        digest = physics_digest(self._simulation.current)
        if digest in self._endings:
            return self._endings[digest]
        outcome = play(Rollout(self._simulation, self._expert), episode, "blocking", 0)
        if outcome["status"] == "error":
            ending = outcome["error"].type
        elif outcome["status"] == "success":
            ending = _SOLVED
        else:
            ending = " after ".join([outcome["cause"], *outcome["stages"][-1:]])
        if digest is not None:
            self._endings[digest] = ending
        return ending

    def _pixels(self) -> Mapping[str, int]:
        """Visible pixels of what the present goal names."""
        simulation = self._simulation.current
        digest = outline_digest(simulation)
        if digest not in self._outlines:
            task = self.task
            view = CameraView(task.cameras[0], task.observation_height_px, task.observation_width_px)
            if simulation.blueprint.key:
                with closing(Outline(simulation)) as outline:
                    self._outlines[digest] = outline.visible_px(view)
            else:
                self._outlines[digest] = self._outline.visible_px(view)
        shown = self._outlines[digest]
        return {name: shown[name] for name in _named(simulation) if name in shown}


def _named(simulation: MujocoSimulation) -> tuple[str, ...]:
    """Things that the goal of this episode names, directly or by a region of theirs."""
    problem = simulation.scene.problem
    return tuple(
        dict.fromkeys(
            scenery.owner(problem, argument) for literal in simulation.goal for argument in literal.args
        )
    )


def _solved(draws: Sequence[Draw]) -> int:
    return sum(draw.ending == _SOLVED for draw in draws)


def _seen(draws: Sequence[Draw]) -> int:
    return sum(draw.seen for draw in draws)


def decided(n: int, solved: int, seen: int, seeds: int) -> bool:
    """Whether both rates of n draws are high enough, or one can no longer become so within `seeds` draws."""
    if n >= seeds or min(lower(solved, n), lower(seen, n)) >= LOWEST:
        return True
    left = seeds - n
    return min(lower(solved + left, seeds), lower(seen + left, seeds)) < LOWEST


def _goal(task: Task, variation: str) -> str:
    """What the factors that talk do to the goal; a policy cannot certify that, the expert does not listen."""
    found = "same"
    for factor, level in parse(variation):
        if factor.axis not in ("language", "semantic"):
            continue
        checked = check_goal(factor, level, task)
        if checked.problems:
            return "; ".join(checked.problems)
        found = "declared" if checked.changed else found
    return found


def certify_probability(rate: float, seeds: int) -> float:
    """Probability that a cell of this true rate of solved draws is certified, were all of them seen.

    Exact, by following the distribution of the number of solved draws from look to look.
    """
    from scipy.stats import binom

    alive, certified, n = {0: 1.0}, 0.0, 0
    for look in (*(look for look in LOOKS if look < seeds), seeds):
        later: dict[int, float] = {}
        for count, weight in alive.items():
            for more in range(look - n + 1):
                chance = weight * float(binom.pmf(more, look - n, rate))
                if lower(count + more, look) >= LOWEST:
                    certified += chance
                else:
                    later[count + more] = later.get(count + more, 0.0) + chance
        alive, n = later, look
    return certified
