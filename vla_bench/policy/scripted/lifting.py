"""Skills: have a thing in the hand, where it is or high up."""

from __future__ import annotations

from vla_bench.policy.scripted.geometry import UP
from vla_bench.policy.scripted.motion import CLOSE, Motion, Pose
from vla_bench.policy.scripted.taking import Taking
from vla_bench.policy.scripted.world import World


class Holding(Taking):
    """Takes a thing and does not let it go; the literal is `held(thing)`."""

    rise_m = 0.0

    def _satisfied(self, world: World) -> bool:
        """Never for good: the literal holds only as long as the hand does."""
        return False

    def _taken(self, world: World) -> Motion | None:
        state = world.state
        self._kept_at = self._arm.draw_in(Pose(state.grip_pos + self.rise_m * UP, state.grip_mat))
        return self._enter(self._keep, world)

    def _keep(self, world: World) -> Motion | None:
        # Once held, a thing that has shifted between the fingers is still held.
        return Motion(self._kept_at, CLOSE) if self._held(world, slack=0.010) else self._give_up(world)


class Lifting(Holding):
    """Takes a thing and raises it above what it may have stood in; the literal is `lifted(thing)`."""

    rise_m = 0.15
