"""Arguments of the original's classes, as `config.json` has them.

A setting that is not known is refused: it could change the architecture. Those that only matter in training
are read and dropped.
"""

from __future__ import annotations

from typing import Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

# of the norms in a stem, between which its features are divided
GROUPS = 32


class Settings(BaseModel):
    """Arguments of a class of the original."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Stem(Settings):
    """SmallStem: convolutions with standardised weights, then patches.

    Attributes:
        patch_size: Side of the square of pixels that becomes a token (px).
        kernel_sizes, strides, features, padding: Of the convolutions.
        num_features: Width of a token.
        img_norm_type: `default` maps levels to −1..1, `imagenet` by mean and standard deviation.
    """

    patch_size: int = Field(default=32, gt=0)
    kernel_sizes: tuple[PositiveInt, ...] = (3, 3, 3, 3)
    strides: tuple[PositiveInt, ...] = (2, 2, 2, 2)
    features: tuple[int, ...] = (32, 96, 192, 384)
    padding: tuple[NonNegativeInt, ...] = (1, 1, 1, 1)
    num_features: int = Field(default=512, gt=0)
    img_norm_type: Literal["default", "imagenet"] = "default"
    use_film: Literal[False] = False

    @model_validator(mode="after")
    def _fits(self) -> Stem:
        lengths = {len(each) for each in (self.kernel_sizes, self.strides, self.features, self.padding)}
        if len(lengths) != 1 or any(n <= 0 or n % GROUPS for n in self.features):
            raise ValueError(
                f"kernel_sizes, strides, features and padding of one length, and multiples of {GROUPS} "
                f"features, are expected; found {self.features}"
            )
        return self


class Stem16(Stem):
    """SmallStem16."""

    patch_size: int = Field(default=16, gt=0)


class Camera(Settings):
    """ImageTokenizer: one picture, and below it in the channels the picture of the goal.

    Attributes:
        encoder: The stem that it goes through.
        obs_stack_keys: The picture's name.
        task_stack_keys: The goal picture's name, where the model takes one.
    """

    encoder: Stem
    obs_stack_keys: tuple[str] = ("",)
    task_stack_keys: tuple[()] | tuple[str] = ()
    task_film_keys: tuple[()] = ()
    use_token_learner: Literal[False] = False
    num_tokens: int = 8
    conditioning_type: str = "none"
    proper_pad_mask: Literal[True] = True

    @property
    def channels(self) -> int:
        """Of the stem's input."""
        return 3 * (len(self.obs_stack_keys) + len(self.task_stack_keys))


class Numbers(Settings):
    """LowdimObsTokenizer: every number becomes a token.

    Attributes:
        obs_keys: Names of the numbers.
        discretize: Whether a token says into which bin a number falls, or is the number itself.
        n_bins, bin_type, low, high: The bins.
    """

    obs_keys: tuple[str, ...] = ()
    discretize: bool = False
    n_bins: int = Field(default=256, gt=0, le=65_536)
    bin_type: Literal["uniform", "normal"] = "uniform"
    low: float = 0.0
    high: float = 1.0
    proper_pad_mask: Literal[True] = True


class Language(Settings):
    """LanguageTokenizer: T5's encoder, whose weights are in the checkpoint."""

    encoder: Literal["t5-small", "t5-base", "t5-large"]
    finetune_encoder: bool = False
    proper_pad_mask: Literal[True] = True


class _Head(Settings):
    """An action head: which tokens it reads, and how many actions of which size it gives."""

    readout_key: str
    use_map: bool = False
    # version 1.0 says pred_horizon
    action_horizon: int = Field(
        default=1, gt=0, validation_alias=AliasChoices("action_horizon", "pred_horizon")
    )
    action_dim: int = Field(default=7, gt=0)


class Diffusion(_Head):
    """DiffusionActionHead: noise becomes actions in `diffusion_steps` steps."""

    max_action: float = Field(default=5.0, gt=0)
    loss_type: str = "mse"
    time_dim: int = Field(default=32, gt=0, multiple_of=2)
    num_blocks: int = Field(default=3, ge=0, le=1000)
    dropout_rate: float = 0.0
    hidden_dim: int = Field(default=256, gt=0)
    use_layer_norm: bool = True
    diffusion_steps: int = Field(default=20, gt=0, le=10_000)
    n_diffusion_samples: int = 1


class Continuous(_Head):
    """ContinuousActionHead: one linear layer."""

    max_action: float = Field(default=5.0, gt=0)
    loss_type: str = "mse"


class PooledContinuous(Continuous):
    """L1ActionHead and MSEActionHead: the same, pooled by attention unless they say otherwise."""

    use_map: bool = True


class Discrete(_Head):
    """DiscreteActionHead: every number is one of `vocab_size` bins.

    Attributes:
        token_per: What a token answers for: one number, one action, or everything.
        vocab_size, normalization_type: The bins; of `uniform` ones, the lowest is at 0 and the highest at 1.
    """

    token_per: Literal[
        "", "action_horizon", "pred_horizon", "action_dim_and_action_horizon", "action_dim_and_pred_horizon"
    ] = "action_dim_and_action_horizon"
    vocab_size: int = Field(default=256, gt=0, le=65_536)
    normalization_type: Literal["uniform", "normal"] = "uniform"


Head = Diffusion | Continuous | Discrete
