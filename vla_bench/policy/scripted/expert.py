"""The privileged expert: plans from the goal's literals, one skill a literal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pydantic import Field

from vla_bench.config import FileModel, parse
from vla_bench.errors import ConventionError
from vla_bench.policy.base import PolicySpec
from vla_bench.policy.cards import Card
from vla_bench.policy.scripted.actuating import Actuating
from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.joints import ACTUATED
from vla_bench.policy.scripted.lifting import Holding, Lifting
from vla_bench.policy.scripted.motion import OPEN, Motion, Pose, servo
from vla_bench.policy.scripted.moving import Moving
from vla_bench.policy.scripted.planning import agenda
from vla_bench.policy.scripted.pouring import Pouring
from vla_bench.policy.scripted.righting import Righting, fits
from vla_bench.policy.scripted.skill import Skill
from vla_bench.policy.scripted.sliding import Sliding, slides
from vla_bench.policy.scripted.tipping import Tipping
from vla_bench.policy.scripted.toppling import Toppling
from vla_bench.policy.scripted.world import Clouds, World
from vla_bench.types import ActionChunk, Observation, Predicate, WorldState

SKILLS: dict[str, type[Skill]] = {
    **dict.fromkeys(("in", "on", "near", "outof"), Moving),
    **dict.fromkeys(ACTUATED, Actuating),
    **{"held": Holding, "lifted": Lifting, "upright": Tipping, "toppled": Toppling, "poured": Pouring},
}
# literal → (when, skill): what does better than the usual skill in some worlds
SPECIAL: dict[str, tuple[Callable[[World, Predicate], bool], type[Skill]]] = {
    "on": (slides, Sliding),
    "upright": (fits, Righting),
}


class Manner(FileModel):
    """Options of an expert's card.

    Attributes:
        eagerness: Share of its usual step towards a goal; see `motion.servo`.
        period_s: Counts time in its own answers, each so long: then it waits for its fingers as many answers
            as at that rate, however slowly they come. None: it counts simulated time.
    """

    eagerness: float = Field(default=1.0, gt=0, le=1)
    period_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Expert:
    """Reaches the goal from the snapshot that comes with each observation."""

    spec = PolicySpec(privileged=True)

    def __init__(self, card: Card, precision: str) -> None:
        self._manner = parse(Manner, card.options, card.source, at="options")
        self.reset("", 0)

    def reset(self, instruction: str, seed: int) -> None:
        """Forget everything; the instruction is not needed, the goal is in the snapshot."""
        self._clouds = Clouds()
        self._skill: Skill | None = None
        self._arm: Arm | None = None
        self._before: WorldState | None = None
        self._answers = 0
        self._is_excused = False

    def excuse(self) -> None:
        """Tell it that somebody else has acted since its last answer.

        It answers from where that has led, but does not count as its own failure what did not get on.
        """
        self._is_excused = True

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return one action."""
        state = observations[-1].state
        if state is None:
            raise ConventionError("the expert needs Observation.state: its spec says privileged")
        if self._manner.period_s is not None:
            state = replace(state, time_ns=round(self._answers * self._manner.period_s * 1e9))
        self._answers += 1
        if self._arm is None:
            self._arm = Arm(state)
        before, self._before = self._before, state
        period = 0.05 if before is None else (state.time_ns - before.time_ns) * 1e-9
        world = World(state, self._clouds, before)
        motion = self._motion(world, self._arm)
        return ActionChunk(servo(motion, state, self._arm, max(period, 0.02), self._manner.eagerness)[None])

    def _motion(self, world: World, arm: Arm) -> Motion:
        """Go on with the present skill; else begin with the first literal that leaves something to do."""
        is_excused, self._is_excused = self._is_excused, False
        if self._skill is not None:
            if is_excused:
                self._skill.excuse(world)
            motion = self._skill.step(world)
            if motion is not None:
                return motion
            self._skill = None
        for literal in agenda(world.state, SKILLS):
            self._skill = _skill_for(world, literal)(literal, arm)
            motion = self._skill.step(world)
            if motion is not None:
                return motion
        self._skill = None
        return Motion(Pose(world.state.grip_pos, world.state.grip_mat), OPEN)


def _skill_for(world: World, literal: Predicate) -> type[Skill]:
    suits, special = SPECIAL.get(literal.name, (None, None))
    return (
        special
        if suits is not None and special is not None and suits(world, literal)
        else SKILLS[literal.name]
    )
