"""The values that pass between the parts, and the contract of a simulation.

Everything here is data. `sim` and `policy` both depend on this module and never on each other.
Units: lengths in metres, angles in radians, rotations as 3×3 matrices, time in seconds (`_s`) or integer
nanoseconds (`_ns`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import MissingCapabilityError

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

TASK_AXES = ("visual", "motion", "physical", "semantic", "language")
TaskAxis = Literal["visual", "motion", "physical", "semantic", "language"]
StaleRule = Literal["goal", "null", "repeat"]


# ── what is run ────────────────────────────────────────────────────────────────────────────────────────


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
    split: Literal["id", "ood"] = "id"
    axis: TaskAxis | None = None
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


# ── what a policy sees and says ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class CameraView:
    """A picture that is asked for: a camera of the scene at a size."""

    name: str
    height_px: int = 256
    width_px: int = 256


@dataclass(frozen=True, slots=True)
class Predicate:
    """One literal of a goal or of an initial state, for example on(bowl_1, plate_1)."""

    name: str
    args: tuple[str, ...]
    line: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.args)})"


@dataclass(frozen=True, slots=True)
class Boxes:
    """Collision geometry of an entity as N oriented boxes in the world.

    Attributes:
        pos: (N, 3) centres.
        mat: (N, 3, 3) rotations.
        half: (N, 3) half sizes.
        link: Name of the body that carries each box.
    """

    pos: Array
    mat: Array
    half: Array
    link: tuple[str, ...]

    def corners(self) -> Array:
        """(N, 8, 3) corner points in the world."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
        local = self.half[:, None, :] * signs
        return self.pos[:, None, :] + np.einsum("nij,nkj->nki", self.mat, local)


@dataclass(frozen=True, slots=True)
class JointState:
    """A hinge or slide of a fixture.

    Attributes:
        kind: `hinge` or `slide`.
        qpos: Position (rad or m).
        limits: (2,) lower and upper limit.
        anchor: (3,) point on the axis in the world.
        axis: (3,) unit direction in the world.
        link: Body that the joint moves.
    """

    kind: Literal["hinge", "slide"]
    qpos: float
    limits: tuple[float, float]
    anchor: Array
    axis: Array
    link: str


@dataclass(frozen=True, slots=True)
class Entity:
    """An object or fixture of the scene: pose of its root body, collision boxes, joints by name."""

    name: str
    category: str
    movable: bool
    pos: Array
    mat: Array
    boxes: Boxes
    joints: Mapping[str, JointState]


@dataclass(frozen=True, slots=True)
class RegionState:
    """A named box in the world: a zone of the table, or a part of an entity.

    Attributes:
        pos, mat, half: Centre, rotation and half sizes.
        parent: Entity that carries it, or None for a zone of the workspace.
        joints: Joints of the parent that move it.
    """

    name: str
    pos: Array
    mat: Array
    half: Array
    parent: str | None
    joints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorldState:
    """Snapshot of a simulation for privileged policies, copied at one instant.

    Attributes:
        time_ns: Simulated time.
        grip_pos, grip_mat: Pose of the point between the finger tips.
        gripper_qpos: (2,) finger positions.
        goal: The literals whose conjunction is success.
        satisfied: Whether each literal holds.
        entities, regions: By name.
    """

    time_ns: int
    grip_pos: Array
    grip_mat: Array
    gripper_qpos: Array
    goal: tuple[Predicate, ...]
    satisfied: tuple[bool, ...]
    entities: Mapping[str, Entity]
    regions: Mapping[str, RegionState]


@dataclass(frozen=True, slots=True)
class Observation:
    """What was observed at one instant.

    Attributes:
        images: Camera name to (H, W, 3) uint8, top row first, as a person would see it.
        proprio: Name to float64 array.
        instruction: What the policy is told.
        time_ns: Simulated time of the observation.
        state: For privileged policies only.
    """

    images: Mapping[str, Image]
    proprio: Mapping[str, Array]
    instruction: str
    time_ns: int
    state: WorldState | None = None


@dataclass(frozen=True, slots=True)
class ActionChunk:
    """T actions of size A, to be executed in order, and what computing them took.

    Attributes:
        actions: (T, A) float64. For one arm A = 7: Δx Δy Δz (×0.05 m), rotation vector (×0.5 rad), gripper
            (−1 open, +1 closed), each in [−1, 1].
        timings_ms: Milliseconds of `preprocess`, `inference` and `postprocess`, where measured.
    """

    actions: Array
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """What a precision came to on the machine where a policy was loaded: looked at, not assumed.

    Attributes:
        precision: Its name.
        backend: Package that does it, with version.
        device: Where the weights are.
        activations: Type of what passes between layers, and of all weights that are not quantised.
        weights: What quantised weights are stored as; "" if none are.
        block: How many consecutive weights share a scale; None is a whole row.
        compute_setting, compute: What the product is computed in: as set, and as found after a call.
        settings: Further settings that change numbers.
        layers: Number of quantised linear layers.
        kept: Linear layers that are not quantised, and why.
        parameters, parameters_quantised: How many there are.
        bytes, bytes_quantised: What they take, scales and padding included.
        kernels: Rows of the input → operation that multiplied a quantised layer by it.
        low_bit_kernels: Whether all of these take the few bits as they are; otherwise weights are converted
            back first, and quantisation saves memory but no arithmetic.
        batch_independent: Whether actions are the same in any batch, up to rounding.
    """

    precision: str
    backend: str
    device: str
    activations: str
    weights: str = ""
    block: int | None = None
    compute_setting: str = ""
    compute: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    layers: int = 0
    kept: Mapping[str, str] = field(default_factory=dict)
    parameters: int = 0
    parameters_quantised: int = 0
    bytes: int = 0
    bytes_quantised: int = 0
    kernels: Mapping[str, str] = field(default_factory=dict)
    low_bit_kernels: bool = False
    batch_independent: bool = True

    @property
    def share(self) -> float:
        """Share of the parameters that is quantised, in [0, 1]."""
        return self.parameters_quantised / self.parameters if self.parameters else 0.0

    def __str__(self) -> str:
        size = f"{self.parameters / 1e6:.1f} M parameters in {self.bytes / 1e6:.1f} MB"
        place = f"{self.precision} on {self.device} ({self.backend}): {size}"
        if not self.weights:
            return f"{place}, {self.activations}"
        scale = "one scale a row" if self.block is None else f"one scale for {self.block} weights"
        little = "" if self.share >= 0.5 else " (less than half)"
        how = "low-bit kernels" if self.low_bit_kernels else "converted back before multiplying"
        used = ", ".join(dict.fromkeys(self.kernels.values()))
        return (
            f"{place}; {self.layers} of {self.layers + len(self.kept)} linear layers with "
            f"{100 * self.share:.1f} % of the parameters{little} in {self.weights}, {scale}; the rest and "
            f"what passes between layers in {self.activations}; computes in {self.compute} (set: "
            f"{self.compute_setting}); {how}: {used}"
        )


# ── what runs it ───────────────────────────────────────────────────────────────────────────────────────


class Simulation(Protocol):
    """What the runner needs of a simulated task."""

    task: Task
    action_size: int
    cameras: tuple[str, ...]

    def reset(self, episode: Episode) -> None:
        """Put the simulation into the initial state of `episode`."""
        ...

    def tick(self, command: Array | None) -> None:
        """Advance `task.tick_s`; None = no new command: the controller keeps its goal."""
        ...

    def observe(self, views: Sequence[CameraView] = (), *, privileged: bool = False) -> Observation:
        """Return the observation of now; only the views asked for are rendered."""
        ...

    @property
    def succeeded(self) -> bool:
        """Whether the goal held at the last tick."""
        ...

    @property
    def score(self) -> float:
        """Partial credit in [0, 1]."""
        ...

    @property
    def stages(self) -> tuple[str, ...]:
        """Named stages that have been reached."""
        ...

    @property
    def drawn(self) -> Mapping[str, Any]:
        """Values drawn for this episode's variation, for the record."""
        ...

    def close(self) -> None:
        """Release memory and graphics."""
        ...
