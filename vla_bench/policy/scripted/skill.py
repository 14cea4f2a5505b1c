"""What all skills share: a stage, since when it lasts, whether it gets on, and how the fingers move."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from vla_bench.policy.scripted import gripper
from vla_bench.policy.scripted.arm import Arm
from vla_bench.policy.scripted.motion import OPEN, Motion, Pose
from vla_bench.policy.scripted.world import World
from vla_bench.types import Predicate

Stage = Callable[[World], Motion | None]

_STOPPED = 0.004  # speed (m/s) of a finger below which it stands
_GAIN = 0.004  # improvement (m) that counts as getting on
_STALL_S = 1.5  # time without improvement after which a way is blocked


class Skill(ABC):
    """Makes one literal hold. Each stage is a method that looks at the world and says what to do next.

    A stage decides from the present state alone; what is remembered here is only how long it has tried.

    Args:
        literal: What shall hold.
        arm: Reach, and the orientation at rest.
    """

    def __init__(self, literal: Predicate, arm: Arm) -> None:
        self.literal, self._arm = literal, arm
        self._stage: Stage | None = None
        self._since_ns = self._progress_ns = 0
        self._least = np.inf
        self._opening: tuple[int, float] | None = None
        self._finger_speed = np.inf

    def step(self, world: World) -> Motion | None:
        """What to do next; None when there is nothing left to do."""
        self._watch_fingers(world)
        return self._begin(world) if self._stage is None else self._stage(world)

    def excuse(self, world: World) -> None:
        """Somebody else has acted since the last step: that nothing got on says nothing of this way."""
        self._restart_progress(world)

    @property
    def phase(self) -> str:
        """Name of the stage, for traces."""
        return "begin" if self._stage is None else getattr(self._stage, "__name__", "").strip("_")

    @abstractmethod
    def _begin(self, world: World) -> Motion | None:
        """The first stage."""

    def _enter(self, stage: Stage, world: World) -> Motion | None:
        """Change to a stage and take its first step."""
        self._stage, self._since_ns = stage, world.state.time_ns
        self._restart_progress(world)
        return stage(world)

    def _elapsed_s(self, world: World) -> float:
        """Time spent in this stage."""
        return (world.state.time_ns - self._since_ns) * 1e-9

    def _restart_progress(self, world: World) -> None:
        self._progress_ns, self._least = world.state.time_ns, np.inf

    def _stalled(self, world: World, error: float) -> bool:
        """Whether `error` (m) has not become smaller for a while."""
        if error < self._least - _GAIN:
            self._progress_ns, self._least = world.state.time_ns, error
        return self._still_s(world) > _STALL_S

    def _still_s(self, world: World) -> float:
        """Time since the error last became smaller."""
        return (world.state.time_ns - self._progress_ns) * 1e-9

    def _fingers_stand(self, world: World) -> bool:
        """Whether the fingers have had time to close and move no more."""
        return self._elapsed_s(world) > 0.3 and self._finger_speed < _STOPPED

    def _watch_fingers(self, world: World) -> None:
        now, opening = world.state.time_ns, gripper.half_opening(world.state.gripper_qpos)
        if self._opening is not None and now > self._opening[0]:
            self._finger_speed = abs(opening - self._opening[1]) / ((now - self._opening[0]) * 1e-9)
        self._opening = (now, opening)

    def _open_here(self, world: World) -> Motion:
        return Motion(Pose(world.state.grip_pos, world.state.grip_mat), OPEN)

    def _satisfied(self, world: World) -> bool:
        """Whether the literal is one of the goal's and holds."""
        state = world.state
        return any(
            done and literal == self.literal
            for literal, done in zip(state.goal, state.satisfied, strict=True)
        )
