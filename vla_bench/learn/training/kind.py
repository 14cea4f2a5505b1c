"""What a family of policies provides to be trained: the loop, its state and its batches know nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vla_bench.config import FileModel
from vla_bench.errors import UnknownNameError
from vla_bench.learn.architecture import FAMILIES, Architecture
from vla_bench.learn.training.config import TrainingConfig
from vla_bench.policy.cards import Card
from vla_bench.types import Array, Image, Observation

# the options of a family's card
Options = TypeVar("Options", bound=FileModel)


@dataclass(frozen=True, slots=True)
class Origin(Generic[Options]):
    """Where a training starts from.

    Attributes:
        base: Folder of the checkpoint in the layout that the policy's loader reads.
        conventions: How the trained policy will see and act.
        chunk: Number of actions that it gives at once.
        statistics: Of the data, by the name under which the policy finds them.
    """

    base: Path
    conventions: Options
    chunk: int
    statistics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reach:
    """What belongs to a sample: so many frames up to its own, and so many actions from the oldest one on."""

    frames: int
    actions: int


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A sample: n neighbouring frames of an episode and what was done from the oldest of them on.

    Before the beginning of an episode its first frame and action stand, beyond its end the last ones.

    Attributes:
        pictures: Of each frame, oldest first, of each camera: prepared (see `Sight`) and perhaps changed.
        real: (n,) which frames are not before the beginning.
        proprio: Name → (n, D), as in `Observation.proprio`.
        instruction: What was asked for.
        actions: (T, A) commands as in `ActionChunk`.
        mask: (T,) which of them are the episode's.
        waypoints: (11,) of the newest frame, or None where the training has no foresight; see `foresight`.
    """

    pictures: Sequence[Sequence[Image]]
    real: NDArray[np.bool_]
    proprio: Mapping[str, Array]
    instruction: str
    actions: Array
    mask: NDArray[np.bool_]
    waypoints: NDArray[np.float32] | None = None

    def robot(self, frame: int = -1) -> Observation:
        """The robot at one of the frames: an observation without pictures."""
        return Observation({}, {name: values[frame] for name, values in self.proprio.items()}, "", 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch came to.

    Attributes:
        loss: Scalar, in the unit of the family.
        objective: Scalar that is minimised: the loss, and what else is learned.
        right: Right tokens by the number of the action, (A,); None without tokens.
        counted: (A,) how many numbers the loss is a mean of.
        distance: Mean absolute difference of the actions said to those wanted, both as they are decoded; NaN
            where saying them would cost more than the loss.
    """

    loss: Tensor
    objective: Tensor
    right: Array | None
    counted: Array
    distance: float


class Sight(Protocol):
    """The way of a picture to the model: once, into a file; then anew every time it is looked at."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """The scene's cameras; their order is that of `camera` below."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of prepared pictures."""
        ...

    @property
    def facts(self) -> Any:
        """What decides about prepared pictures, as JSON takes it."""
        ...

    def prepared(self, image: Image, camera: int) -> Image:
        """What is the same every time: (H, W, 3) uint8 as it was recorded → uint8 of `size`."""
        ...

    def plain(self, picture: Image, camera: int) -> Image:
        """The rest, as inference has it."""
        ...

    def changed(self, picture: Image, camera: int, draws: np.random.Generator) -> Image:
        """The rest, changed at random as the training says."""
        ...


class Learner(Protocol):
    """A model with those weights that are trained."""

    @property
    def config(self) -> TrainingConfig:
        """How it is trained."""
        ...

    @property
    def sight(self) -> Sight:
        """What it sees."""
        ...

    @property
    def reach(self) -> Reach:
        """What belongs to a sample."""
        ...

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """All that computes, by the beginnings of the names of its weights."""
        ...

    @property
    def executed(self) -> int:
        """How many actions of a chunk its card lets be executed."""
        ...

    def trained(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name."""
        ...

    def batch(self, excerpts: Sequence[Excerpt], draws: np.random.Generator) -> Any:
        """Samples as `measure` takes them; `draws` belong to this batch."""
        ...

    def measure(self, batch: Any) -> Outcome:
        """The loss of a batch, in the precision of the training."""
        ...

    def judge(self, batch: Any) -> Outcome:
        """The same for samples that are not trained on: what takes longer may be measured too."""
        ...

    def stepped(self, step: int) -> None:
        """After step `step` of the optimiser, counted from 1."""
        ...

    def write(self, folder: Path, step: int) -> None:
        """Write what the policy's loader reads, and whatever else is needed to go on from there."""
        ...

    def write_policy(self, folder: Path, step: int, dtype: torch.dtype) -> None:
        """Write what the policy's loader reads, and nothing else."""
        ...

    def card_options(self, checkpoint: Path) -> dict[str, Any]:
        """The options of a card for the checkpoint in a folder, as JSON takes them."""
        ...

    def lighter(self) -> Sequence[str]:
        """Flags with which it would take less memory."""
        ...


class Kind(Protocol):
    """A family of policies."""

    @property
    def family(self) -> str:
        """Of the card."""
        ...

    @property
    def adapter(self) -> str:
        """Of the card."""
        ...

    @property
    def conventions(self) -> type[FileModel]:
        """What the options of the card are."""
        ...

    @property
    def architecture(self) -> type[Architecture]:
        """What files of new models are."""
        ...

    @property
    def places(self) -> Collection[str]:
        """Options that say where something is and how it is computed, not how it sees and acts."""
        ...

    def read(self, card: Card) -> Any:
        """Read the options of a card; raises as the family's own `read_conventions`."""
        ...

    def folder(self, card: Card, conventions: Any) -> Path:
        """Where the checkpoint of a card is; raises MissingDataError."""
        ...

    def learning_rate(self, strategy: str) -> float:
        """What a checkpoint is trained further with, unless told otherwise."""
        ...

    def cameras(self, conventions: Any) -> tuple[str, ...]:
        """The scene's cameras that it sees."""
        ...

    def fitted(self, conventions: Any, image_px: tuple[int, int], hz: float) -> Any:
        """The conventions for data of that size and frequency."""
        ...

    def physical(self, commands: Array, conventions: Any) -> Array:
        """(N, A) commands as in `ActionChunk` → (N, A) in the units and with the gripper of the policy."""
        ...

    def statistics_key(self, conventions: Any) -> str:
        """Under which name the policy looks for its statistics."""
        ...

    def chunk(self, architecture: Any) -> int:
        """Number of actions that a new model gives at once."""
        ...

    def create(self, architecture: Any, origin: Origin[Any], seed: int) -> None:
        """Write a new model with initial weights into `origin.base`; `model.safetensors` comes last."""
        ...

    def learner(
        self, origin: Origin[Any], config: TrainingConfig, device: torch.device, weights: Path | None
    ) -> Learner:
        """What is trained, with the weights of `origin`, or of a folder that `Learner.write` has written.

        Raises:
            MissingCapabilityError: This is not trained here, or the machine lacks something.
            MissingDataError, DataError: A checkpoint cannot be read, or is that of another strategy.
        """
        ...


def kind_of(family: str) -> Kind:
    """Return what trains a family.

    Raises:
        UnknownNameError: It is not trained here.
    """
    if family not in FAMILIES:
        raise UnknownNameError("family that can be trained", family, FAMILIES)
    return importlib.import_module(f"{__package__}.{family}").KIND
