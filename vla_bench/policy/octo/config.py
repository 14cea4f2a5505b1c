"""What `config.json` of a checkpoint says about its model.

The file names classes by import path; here a name picks a description of our own, and nothing is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vla_bench.errors import DataError, MissingCapabilityError, UnknownNameError, suggest
from vla_bench.policy.octo.settings import (
    Camera,
    Continuous,
    Diffusion,
    Discrete,
    Head,
    Language,
    Numbers,
    PooledContinuous,
    Settings,
    Stem,
    Stem16,
)
from vla_bench.policy.tensors import read_json

FILE = "config.json"
Name = Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")]


class Spec(Settings):
    """How the original writes down a class and its arguments."""

    module: str = ""
    name: str
    args: tuple[Any, ...] = Field(default=(), max_length=0)
    kwargs: dict[str, Any] = Field(default_factory=dict)


_STEMS: dict[str, type[Stem]] = {"SmallStem": Stem, "SmallStem16": Stem16, "SmallStem32": Stem}
_OBSERVATIONS: dict[str, type[Settings]] = {"ImageTokenizer": Camera, "LowdimObsTokenizer": Numbers}
_TASKS: dict[str, type[Settings]] = {"LanguageTokenizer": Language}
_HEADS: dict[str, type[Settings]] = {
    "DiffusionActionHead": Diffusion, "ContinuousActionHead": Continuous, "L1ActionHead": PooledContinuous,
    "MSEActionHead": PooledContinuous, "DiscreteActionHead": Discrete, "TokenPerDimActionHead": Discrete,
}  # fmt: skip


class _Transformer(Settings):
    num_layers: int = Field(gt=0, le=1000)
    mlp_dim: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    add_position_embedding: Literal[False] = False


class _Model(Settings):
    observation_tokenizers: dict[Name, Spec] = Field(min_length=1)
    task_tokenizers: dict[Name, Spec]
    heads: dict[Name, Spec]
    readouts: dict[Name, Annotated[int, Field(gt=0)]]
    token_embedding_size: int = Field(gt=0)
    transformer_kwargs: _Transformer
    max_horizon: int = Field(gt=0)
    # absent in version 1.0, whose behaviour is that of False
    repeat_task_tokens: bool = False
    use_correct_attention: bool = False


class _TokenizerArguments(BaseModel):
    max_length: int | None = Field(default=None, gt=0)


class _TextProcessorArguments(BaseModel):
    tokenizer_name: str | None = None
    encode_with_model: Literal[False] = False
    tokenizer_kwargs: _TokenizerArguments = _TokenizerArguments()


class _TextProcessor(BaseModel):
    name: Literal["HFTokenizer"]
    kwargs: _TextProcessorArguments = _TextProcessorArguments()


class _File(BaseModel):
    """The whole file; what belongs to training is not looked at."""

    model_config = ConfigDict(extra="ignore")

    model: _Model
    window_size: int | None = Field(default=None, gt=0)
    text_processor: _TextProcessor | None = None


@dataclass(frozen=True, slots=True)
class OctoConfig:
    """A model as its folder describes it.

    Attributes:
        cameras, numbers, languages: Tokenizers by name; `observations` is the order of the first two.
        head: The action head.
        readouts: Readout → number of tokens.
        width, depth, heads, hidden: Features of a token, blocks, attention heads, features inside an MLP.
        horizon: Most time steps that the model has positions for.
        window: Time steps that it was trained with, where the file says so.
        text_length: Tokens that a text is cut or filled to, where the file says so.
        repeat_task: Whether the task's tokens are repeated at every time step (1.5).
        correct_attention: Whether the first token of a group counts to its own group (1.5), or to the one
            before it (1.0).
    """

    cameras: Mapping[str, Camera]
    numbers: Mapping[str, Numbers]
    languages: Mapping[str, Language]
    observations: tuple[str, ...]
    head: Head
    readouts: Mapping[str, int]
    width: int
    depth: int
    heads: int
    hidden: int
    horizon: int
    window: int | None
    text_length: int | None
    repeat_task: bool
    correct_attention: bool


def read_config(folder: Path) -> OctoConfig:
    """Read `config.json` of a checkpoint folder.

    Raises:
        MissingDataError: There is no such file.
        DataError: It lacks a setting, or one has an impossible value.
        MissingCapabilityError: It names a class that is not implemented, or a setting that is not known.
    """
    return parse_config(read_json(folder / FILE), folder / FILE)


def parse_config(content: Any, path: Path) -> OctoConfig:
    """Read the content of a `config.json`; raises as `read_config`."""
    file = _validated(_File, content, path, "")
    model = file.model
    observations = _tokenizers(model.observation_tokenizers, _OBSERVATIONS, path, "observation_tokenizers")
    tasks = _tokenizers(model.task_tokenizers, _TASKS, path, "task_tokenizers")
    heads = _tokenizers(model.heads, _HEADS, path, "heads")
    if set(heads) != {"action"}:
        raise DataError(path, f"model.heads: expected the head 'action', found {', '.join(heads) or 'none'}")
    if len(tasks) > 1:
        raise MissingCapabilityError(f"{path}: {len(tasks)} task tokenizers; one at most is implemented")
    if model.token_embedding_size % model.transformer_kwargs.num_attention_heads:
        raise DataError(
            path,
            f"{model.token_embedding_size} features do not divide into "
            f"{model.transformer_kwargs.num_attention_heads} attention heads",
        )
    if file.window_size is not None and file.window_size > model.max_horizon:
        raise DataError(
            path, f"window_size {file.window_size} is longer than max_horizon {model.max_horizon}"
        )
    head = heads["action"]
    readable = ["obs", *(f"obs_{n}" for n in observations), *(f"readout_{n}" for n in model.readouts)]
    if head.readout_key not in readable:
        raise UnknownNameError("readout_key", head.readout_key, readable, where=f"{path}: model.heads.action")
    text = file.text_processor
    return OctoConfig(
        cameras={name: t for name, t in observations.items() if isinstance(t, Camera)},
        numbers={name: t for name, t in observations.items() if isinstance(t, Numbers)},
        languages=tasks,
        observations=tuple(observations),
        head=head,
        readouts=model.readouts,
        width=model.token_embedding_size,
        depth=model.transformer_kwargs.num_layers,
        heads=model.transformer_kwargs.num_attention_heads,
        hidden=model.transformer_kwargs.mlp_dim,
        horizon=model.max_horizon,
        window=file.window_size,
        text_length=None if text is None else text.kwargs.tokenizer_kwargs.max_length,
        repeat_task=model.repeat_task_tokens,
        correct_attention=model.use_correct_attention,
    )


def _tokenizers(
    specs: Mapping[str, Spec], known: Mapping[str, type[Settings]], path: Path, at: str
) -> dict[str, Any]:
    return {name: _built(spec, known, path, f"model.{at}.{name}") for name, spec in specs.items()}


def _built(spec: Spec, known: Mapping[str, type[Settings]], path: Path, at: str) -> Any:
    """The description that a spec names, with its arguments."""
    if spec.name not in known:
        raise MissingCapabilityError(
            f"{path}: {at}: {spec.name!r} is not implemented{suggest(spec.name, known)}"
        )
    arguments = dict(spec.kwargs)
    if known[spec.name] is Camera:
        encoder = _validated(Spec, arguments.get("encoder"), path, f"{at}.encoder")
        arguments["encoder"] = _built(encoder, _STEMS, path, f"{at}.encoder")
    return _validated(known[spec.name], arguments, path, at)


Kind = TypeVar("Kind", bound=BaseModel)


def _validated(kind: type[Kind], content: Any, path: Path, at: str) -> Kind:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = error.errors()
    place = [".".join(map(str, filter(None, (at, *p["loc"])))) for p in problems]
    for name, problem in zip(place, problems, strict=True):
        if problem["type"] == "extra_forbidden":
            raise MissingCapabilityError(
                f"{path}: unknown setting {name} = {problem['input']!r:.60}"
                f"{suggest(str(problem['loc'][-1]), kind.model_fields)}"
            )
    said = "; ".join(
        f"{n} = {p['input']!r:.60}: {p['msg'].lower()}" for n, p in zip(place, problems, strict=True)
    )
    raise DataError(path, said)
