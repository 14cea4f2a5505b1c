"""What a diffusion policy is made of: one description for all formats of checkpoints.

Readers of formats translate into it; the modules are built from it alone.
"""

from __future__ import annotations

from math import ceil
from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from vla_bench.config import FileModel

Size = tuple[PositiveInt, PositiveInt]

# channels of the last feature map for each of the first one
_WIDENING = {"resnet18": 8, "resnet34": 8, "resnet50": 32}
Backbone = Literal["resnet18", "resnet34", "resnet50"]


class CameraInput(FileModel):
    """A picture that is an input.

    Attributes:
        key: Its name in the checkpoint.
        size: Height and width (pixels).
        resize: Height and width that it is brought to first.
        crop: Height and width that is cut out of the middle then.
    """

    kind: Literal["camera"] = "camera"
    key: str
    size: Size
    resize: Size | None = None
    crop: Size | None = None

    @property
    def seen(self) -> Size:
        """Height and width that the encoder gets."""
        return self.crop or self.resize or self.size

    @model_validator(mode="after")
    def _crop_fits(self) -> CameraInput:
        whole = self.resize or self.size
        if self.crop is not None and (self.crop[0] > whole[0] or self.crop[1] > whole[1]):
            raise ValueError(f"{self.key!r}: a crop of {self.crop} does not fit into a picture of {whole}")
        return self


class NumbersInput(FileModel):
    """A vector that is an input: its name in the checkpoint and its length."""

    kind: Literal["numbers"] = "numbers"
    key: str
    size: PositiveInt


class Vision(FileModel):
    """How a picture becomes features.

    Attributes:
        backbone: Which residual network.
        width: Channels of its first feature map; 64 is the published networks'.
        norm: `group`: channels in groups of 16. `batch`: with the statistics of training.
        shared: One network for all cameras.
        imagenet: Pictures are shifted and scaled once more by ImageNet's statistics.
        pool: Of the last feature map: its `mean`; the expected place of `keypoints` of
            them; all of it, `flat`.
        keypoints: How many.
        features: Outputs of a linear layer with ReLU that follows; None leaves it out.
    """

    backbone: Backbone = "resnet18"
    width: int = Field(default=64, gt=0, multiple_of=16)
    norm: Literal["group", "batch"] = "group"
    shared: bool = False
    imagenet: bool = False
    pool: Literal["mean", "keypoints", "flat"] = "keypoints"
    keypoints: PositiveInt = 32
    features: PositiveInt | None = 64

    @property
    def channels(self) -> int:
        """Of the last feature map."""
        return _WIDENING[self.backbone] * self.width

    def pooled(self, seen: Size) -> int:
        """Numbers that pooling gives for a picture of `seen`."""
        if self.pool == "keypoints":
            return 2 * self.keypoints
        places = ceil(seen[0] / 32) * ceil(seen[1] / 32) if self.pool == "flat" else 1
        return self.channels * places

    def size(self, seen: Size) -> int:
        """Features of a picture of `seen`."""
        return self.features or self.pooled(seen)


class Language(FileModel):
    """How the instruction becomes numbers.

    Attributes:
        encoder: `words`: vectors of words and of neighbouring words, learnt with the policy. `bytes`: the
            mean state of a small T5 encoder that reads the text byte by byte, learnt with the policy.
            `distilbert`: the sum of the last hidden states of a frozen DistilBERT, as in OpenVLA's
            comparison.
        size: How many numbers.
        buckets: How many vectors `words` has.
        depth, heads, hidden: Blocks, attention heads and features inside an MLP of `bytes`.
        length: Bytes that a text is cut to, for `bytes`.
    """

    encoder: Literal["words", "bytes", "distilbert"]
    size: PositiveInt
    buckets: PositiveInt = 4096
    depth: PositiveInt = 2
    heads: PositiveInt = 4
    hidden: PositiveInt = 256
    length: PositiveInt = 64

    @model_validator(mode="after")
    def _heads_divide(self) -> Language:
        if self.encoder == "bytes" and self.size % self.heads:
            raise ValueError(f"a size of {self.size} is not divisible into {self.heads} heads")
        return self


class Network(FileModel):
    """The network that predicts noise.

    Attributes:
        step_size: Width of the embedding of the diffusion step.
        widths: Channels of its levels; time is halved from one to the next.
        kernel: Length of the convolutions.
        groups: Of the normalisations.
        scales: The condition scales channels and shifts them; otherwise it shifts them only.
    """

    step_size: PositiveInt = 128
    widths: tuple[PositiveInt, ...] = Field(default=(512, 1024, 2048), min_length=1)
    kernel: PositiveInt = 5
    groups: PositiveInt = 8
    scales: bool = True

    @model_validator(mode="after")
    def _groups_divide(self) -> Network:
        if uneven := [width for width in self.widths if width % self.groups]:
            raise ValueError(f"a width of {uneven[0]} is not divisible into {self.groups} groups")
        if self.step_size % 2 or self.step_size < 4 or self.kernel % 2 == 0:
            raise ValueError(
                f"step_size must be even and at least 4, kernel odd; found {self.step_size} and {self.kernel}"
            )
        return self


class Diffusion(FileModel):
    """The noise, and how it is taken out.

    Attributes:
        sampler: `ddim`: deterministic. `ddpm`: with fresh noise at every step. `ddpm_single`: the same as
            diffusers did it before 0.12: always to the step just before, even where some are left out.
        trained: Length of the schedule.
        steps: How many of its steps are taken.
        betas: Its form.
        first, last: Ends of the forms that have some.
        predicts: What the network is asked for.
        clip: Largest magnitude of a clean action; None for any.
    """

    sampler: Literal["ddim", "ddpm", "ddpm_single"] = "ddpm"
    trained: PositiveInt = 100
    steps: PositiveInt = 100
    betas: Literal["squaredcos_cap_v2", "linear", "scaled_linear"] = "squaredcos_cap_v2"
    first: float = Field(default=1e-4, gt=0, lt=1)
    last: float = Field(default=0.02, gt=0, lt=1)
    predicts: Literal["epsilon", "sample"] = "epsilon"
    clip: float | None = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _steps_exist(self) -> Diffusion:
        if self.steps > self.trained:
            raise ValueError(f"{self.steps} steps of a schedule of {self.trained}")
        return self


class Design(FileModel):
    """A diffusion policy without its weights.

    Attributes:
        inputs: In the order of their features.
        vision, network, diffusion, language: Its parts.
        action_size: A.
        history: Number of observations that it is given.
        horizon: Number of actions that it predicts; the first belongs to the oldest observation.
        executed: How many its authors execute before they ask again.
    """

    inputs: tuple[CameraInput | NumbersInput, ...] = Field(min_length=1)
    vision: Vision = Vision()
    network: Network = Network()
    diffusion: Diffusion = Diffusion()
    language: Language | None = None
    action_size: PositiveInt
    history: PositiveInt = 2
    horizon: PositiveInt = 16
    executed: PositiveInt = 8

    @model_validator(mode="after")
    def _lengths_fit(self) -> Design:
        parts = 2 ** (len(self.network.widths) - 1)
        if self.horizon % parts:
            levels = len(self.network.widths)
            raise ValueError(f"a horizon of {self.horizon} cannot be halved {levels - 1} times")
        if self.executed > self.ahead:
            raise ValueError(
                f"{self.executed} actions are executed, but of a horizon of {self.horizon} only {self.ahead} "
                f"lie ahead of {self.history} observations"
            )
        return self

    @property
    def ahead(self) -> int:
        """Number of predicted actions from the newest observation on."""
        return self.horizon - self.history + 1

    @property
    def cameras(self) -> tuple[CameraInput, ...]:
        """The inputs that are pictures."""
        return tuple(each for each in self.inputs if isinstance(each, CameraInput))

    @property
    def numbers(self) -> tuple[NumbersInput, ...]:
        """The inputs that are vectors."""
        return tuple(each for each in self.inputs if isinstance(each, NumbersInput))

    @property
    def features(self) -> int:
        """Features of one observation."""
        return sum(
            self.vision.size(each.seen) if isinstance(each, CameraInput) else each.size
            for each in self.inputs
        )

    @property
    def condition(self) -> int:
        """Numbers that the network is conditioned on: features of the history, then the instruction."""
        return self.features * self.history + (self.language.size if self.language else 0)
