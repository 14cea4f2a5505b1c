"""What is run: tasks, episodes and arms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vla_bench.errors import MissingCapabilityError

TASK_AXES = ("visual", "motion", "physical", "semantic", "language")
TaskAxis = Literal["visual", "motion", "physical", "semantic", "language"]
SPLITS = ("id", "ood")
Split = Literal["id", "ood"]
StaleRule = Literal["goal", "null", "repeat"]


@dataclass(frozen=True, slots=True)
class Budget:
    """How long an episode may last: policy steps, or seconds of simulated time, whichever is set."""

    steps: int | None = None
    time_s: float | None = None

    def __str__(self) -> str:
        steps = [] if self.steps is None else [f"steps:{self.steps}"]
        time = [] if self.time_s is None else [f"time:{self.time_s:g}"]
        return "+".join(steps + time)


@dataclass(frozen=True, slots=True)
class Engine:
    """Another simulator, which steps the tasks of a suite.

    Attributes:
        adapter: `module:callable`; what it returns for a task and a namespace of seeds is a `Simulation`.
        options: What a task is called there, as (name, value) pairs.
    """

    adapter: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """Scene, instruction, success test and horizon of one task, as its suite declares them.

    Attributes:
        suite: Name of the suite.
        stem: Name within the suite, the stem of the task's file.
        index: Position in the suite, from 0.
        source: File that describes scene and goal: BDDL, or the suite's TOML file where another engine knows
            them.
        instruction: What the policy is told.
        budget: When an episode ends without success.
        substep_s: Physics step.
        tick_s: One `Simulation.tick`.
        policy_period_s: One policy step; one `TaskEnv.step`.
        engine: What steps the task, where not plain MuJoCo from BDDL.
        action_convention: What commands mean; as in `PolicySpec`.
        split: In (`id`) or out of (`ood`) the training distribution.
        axis: The generalisation axis that the task tests, if any.
        group: What the suite tells apart among its tasks, if anything.
        published: The published task that this one mirrors; two prompts of one scene share it.
        init_states: File of initial states, one row an episode, where the suite has one.
        settle_steps: Policy steps with `settle_action` before the episode begins; not counted.
        settle_action: The command during settling.
        stale: What the robot does while no fresh action is there: keep its last goal, stand still where it
            is, or repeat the last motion; None where nobody has said.
        success_hold_s: How long the goal must hold to count; 0 is one instant.
        success_open_gripper: Whether it counts only while the gripper is not told to close.
        observation_height_px, observation_width_px: The protocol's picture size.
        cameras: The protocol's cameras.
    """

    suite: str
    stem: str
    index: int
    source: Path
    instruction: str
    budget: Budget
    substep_s: float
    tick_s: float
    policy_period_s: float
    engine: Engine | None = None
    action_convention: str = "delta_pose"
    split: Split = "id"
    axis: TaskAxis | None = None
    group: str = ""
    published: str = ""
    init_states: Path | None = None
    settle_steps: int = 0
    settle_action: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    stale: StaleRule | None = None
    success_hold_s: float = 0.0
    success_open_gripper: bool = False
    observation_height_px: int = 256
    observation_width_px: int = 256
    cameras: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """`suite/stem`: the name in records."""
        return f"{self.suite}/{self.stem}"

    @property
    def bddl(self) -> Path:
        """File that describes scene and goal.

        Raises:
            MissingCapabilityError: Another engine has them; nothing that reads or edits a scene works here.
        """
        if self.engine is not None:
            raise MissingCapabilityError(
                f"{self.id} has no BDDL file, for {self.engine.adapter} steps it: it cannot be varied, "
                "certified or solved by scripted experts"
            )
        return self.source

    @property
    def gym_id(self) -> str:
        """The id under which Gymnasium knows the task."""
        return f"vla_bench/{self.suite}.{self.stem}-v0"

    @property
    def tick_ns(self) -> int:
        """Length of a tick."""
        return round(self.tick_s * 1e9)

    @property
    def substeps_per_tick(self) -> int:
        """Physics steps in a tick."""
        return round(self.tick_s / self.substep_s)

    @property
    def ticks_per_step(self) -> int:
        """Ticks in a policy period."""
        return round(self.policy_period_s / self.tick_s)


@dataclass(frozen=True, slots=True)
class Episode:
    """Everything about the initial state: the task, how it is varied, and which draw of it.

    Exactly one of `seed` (sample the scene) and `init_state` (row of the task's file) is set.
    """

    task_id: str
    variation: str = ""
    seed: int | None = None
    init_state: int | None = None

    @property
    def key(self) -> str:
        """Readable name that identifies the episode and pairs the arms."""
        start = f"seed{self.seed}" if self.init_state is None else f"init{self.init_state}"
        return "#".join(part for part in (self.task_id, self.variation, start) if part)


@dataclass(frozen=True, slots=True)
class Arm:
    """policy × precision × pacing × latency source (× executed chunk length)."""

    policy: str
    precision: str = "fp32"
    pacing: str = "blocking"
    latency: str = "zero"
    chunk_executed: int | None = None

    @property
    def key(self) -> str:
        """Readable name that identifies the arm."""
        parts = [self.policy, self.precision, self.pacing, self.latency]
        return ",".join(parts + [f"chunk{self.chunk_executed}"] * (self.chunk_executed is not None))
