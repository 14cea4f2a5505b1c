"""What a training is: everything that decides about its weights, and, apart from that, when it ends."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field, model_validator

from vla_bench.config import FileModel

StrategyName = Literal["full", "last_layer", "frozen_vision", "sandwich", "lora", "qlora"]


class TrainingConfig(FileModel):
    """Everything that decides about the weights after a step, besides data, base and card.

    Attributes:
        strategy: Which weights are trained; see `strategies`.
        rank: Of the adapters of `lora` and `qlora`; their alpha is the rank, at most 16.
        batch: Samples in one pass.
        accumulate: Passes to one step of the optimiser.
        learning_rate: After the warm-up.
        optimizer: `adamw`, or `muon`, which takes matrices of hidden layers to their nearest orthogonal ones
            and leaves the rest to AdamW: fewer samples for what is trained from nothing.
        matrix_rate: Learning rate of Muon's matrices, where `learning_rate` is that of the rest.
        label_spread: Standard deviation, in bins, of the bell over which the label of an action token is
            spread; 0 is the label alone. The gripper's never is: between open and closed there is nothing.
        noises: How many noises are drawn for each chunk in a pass of a policy that predicts noise; what is
            seen is looked at once for all of them.
        foresight: Weight of a second loss that only training has; see `foresight`.
        waiting: Largest number of a motion that counts as none: steps that only wait are not trained on, for
            one picture cannot say when to stop waiting. 0 trains on all.
        warmup_steps: Steps in which the rate rises linearly from zero.
        decay_steps: Step at which the rate has fallen to a tenth, along a cosine; None leaves it constant.
        weight_decay: Of matrices; vectors are not decayed.
        clip_norm: Largest norm of all gradients together.
        precision: What the passes compute in; trained weights are kept in float32 beside.
        checkpointing: Intermediate results are computed again instead of kept: less memory, a third slower.
        augment: `openvla` crops (where the card's pictures are cropped) and changes colours at random.
        holdout: Every so many-th episode is never trained on, and measured instead; 0 trains on all.
        seed: Of the order of the samples, the augmentation and new weights.
    """

    strategy: StrategyName = "full"
    rank: int = Field(default=32, gt=0)
    batch: int = Field(default=16, gt=0)
    accumulate: int = Field(default=1, gt=0)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    optimizer: Literal["adamw", "muon"] = "adamw"
    matrix_rate: float = Field(default=0.02, gt=0, allow_inf_nan=False)
    label_spread: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    noises: int = Field(default=1, gt=0)
    foresight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    waiting: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    warmup_steps: int = Field(default=0, ge=0)
    decay_steps: int | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    precision: Literal["bf16", "fp32"] = "bf16"
    checkpointing: bool = False
    augment: Literal["none", "openvla"] = "openvla"
    holdout: int = Field(default=0, ge=0)
    seed: int = 0

    @model_validator(mode="after")
    def _decays_after_warming_up(self) -> TrainingConfig:
        if self.decay_steps is not None and self.decay_steps <= self.warmup_steps:
            raise ValueError(
                f"decay_steps = {self.decay_steps} ends before warmup_steps = {self.warmup_steps} do"
            )
        if self.holdout == 1:
            raise ValueError("holdout = 1 leaves no episode to train on; 0 trains on all, 10 on nine of ten")
        return self

    @property
    def alpha(self) -> int:
        """LoRA's alpha, as OpenVLA and OFT set it."""
        return min(self.rank, 16)

    @property
    def hash(self) -> str:
        """SHA-256 of all keys."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


class Limits(FileModel):
    """When a training ends: at whichever comes first. It may be continued with other limits.

    Attributes:
        max_steps: Steps of the optimiser in all.
        max_minutes: Minutes of training in all, those of earlier sessions included.
        until_accuracy: Share of right action tokens (or, with a regressing head, never) over the last
            `window` steps.
        window: Steps that the accuracy is averaged over.
    """

    max_steps: int | None = Field(default=None, gt=0)
    max_minutes: float | None = Field(default=None, gt=0)
    until_accuracy: float | None = Field(default=None, gt=0, le=1)
    window: int = Field(default=50, gt=0)

    @model_validator(mode="after")
    def _ends(self) -> Limits:
        if self.max_steps is None and self.max_minutes is None:
            raise ValueError("a training needs an end: --max-steps or --max-minutes")
        return self


class Rhythm(FileModel):
    """What is done how often, in steps.

    Attributes:
        log: Lines of the curve.
        save: Checkpoints; the newest `keep` of them stay.
        evaluate: Episodes in the simulator; 0 is never.
    """

    log: int = Field(default=10, gt=0)
    save: int = Field(default=500, gt=0)
    keep: int = Field(default=2, gt=0)
    evaluate: int = Field(default=0, ge=0)
