"""Octo without its head: tokens of the task and of every time step, and one transformer over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vla_bench.policy.octo import bins
from vla_bench.policy.octo.blocks import Block, additive, norm
from vla_bench.policy.octo.config import OctoConfig
from vla_bench.policy.octo.sequence import OBSERVATION, READOUT, TASK, Group, attention_mask
from vla_bench.policy.octo.settings import Numbers
from vla_bench.policy.octo.stem import SmallStem
from vla_bench.policy.octo.text import TextSizes, text_encoder


@dataclass(frozen=True, slots=True)
class Sizes:
    """What only the parameters say.

    Attributes:
        tokens: Group → number of its tokens.
        text: Of T5; None without a text.
    """

    tokens: Mapping[str, int]
    text: TextSizes | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """What B windows of W time steps are for the model.

    Attributes:
        steps: (B, W) bool, which are real and not filled up.
        pictures: Camera → (B, W, H, W, 3) uint8. A camera that is not here is left out altogether.
        numbers: Tokenizer → (B, W, N).
        text: (B, L, T5's width) encoded text; None leaves the text out.
        has_text: (B,) bool, whether the text is to be looked at.
        goals: Camera → (B, H, W, 3) uint8; black where there is none.
        seen: Camera → (B, W) bool, whether its pictures are to be looked at; all without an entry.
    """

    steps: Tensor
    pictures: Mapping[str, Tensor]
    text: Tensor | None = None
    has_text: Tensor | None = None
    numbers: Mapping[str, Tensor] = field(default_factory=dict)
    goals: Mapping[str, Tensor] = field(default_factory=dict)
    seen: Mapping[str, Tensor] = field(default_factory=dict)


class Octo(nn.Module):
    """The model without its head.

    Args:
        config: What `config.json` says.
        sizes: What only the parameters say.
    """

    def __init__(self, config: OctoConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.stems = nn.ModuleDict(
            {name: SmallStem(camera.encoder, camera.channels) for name, camera in config.cameras.items()}
        )
        self.text = None if sizes.text is None else text_encoder(sizes.text)
        widths = {OBSERVATION + name: camera.encoder.num_features for name, camera in config.cameras.items()}
        widths |= {OBSERVATION + name: _features(numbers) for name, numbers in config.numbers.items()}
        if sizes.text is not None:
            widths |= {TASK + name: sizes.text.width for name in config.languages}
        self.projections = nn.ModuleDict({name: nn.Linear(n, width) for name, n in widths.items()})
        readouts = [READOUT + name for name in config.readouts]
        self.positions = nn.ParameterDict(
            {
                name: torch.empty(_position_shape(config, name, sizes.tokens[name]))
                for name in [*widths, *readouts]
            }
        )
        self.blocks = nn.ModuleList(Block(width, config.heads, config.hidden) for _ in range(config.depth))
        self.norm = norm(width)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of what passes between the blocks."""
        return self.norm.weight.dtype

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) token ids and which of them are no padding → (B, L, T5's width)."""
        assert self.text is not None, "the model takes no text"
        return self.text(input_ids=ids, attention_mask=mask).last_hidden_state

    def task_groups(self, inputs: Inputs) -> list[Group]:
        """The tokens that come once: those of the text."""
        if inputs.text is None or inputs.has_text is None:
            return []
        groups = []
        for name in self.config.languages:
            tokens = self._placed(TASK + name, inputs.text)
            # all of them count, also those that fill up the text: only T5 itself leaves these out
            groups.append(Group(TASK + name, tokens, inputs.has_text[:, None].expand(tokens.shape[:2])))
        return groups

    def look(self, inputs: Inputs) -> dict[str, Tensor]:
        """Tokenizer → (B, W, n, width) tokens of its observations, for those that there are."""
        found = {}
        for name in self.config.observations:
            if name in inputs.pictures:
                found[name] = self._placed(OBSERVATION + name, self._look(name, inputs))
            elif name in inputs.numbers:
                tokens = self._count(self.config.numbers[name], inputs.numbers[name])
                found[name] = self._placed(OBSERVATION + name, tokens)
        return found

    def arranged(self, seen: Mapping[str, Tensor], inputs: Inputs, task: list[Group]) -> list[Group]:
        """The groups of every time step: observations as `look` gives them, task again in 1.5, readouts."""
        batch, window = inputs.steps.shape
        groups = [self._observed(name, tokens, inputs) for name, tokens in seen.items()]
        if self.config.repeat_task:
            for group in task:
                tokens = group.tokens[:, None].expand(-1, window, -1, -1)
                # not masked by the time steps: the task is known before the first of them
                mask = group.mask[:, None].expand(-1, window, -1)
                groups.append(Group(OBSERVATION + group.name, tokens, mask))
        for name in self.config.readouts:
            place = self.positions[READOUT + name][:, :window]
            tokens = place.expand(batch, -1, -1, -1)
            groups.append(Group(READOUT + name, tokens, tokens.new_ones(tokens.shape[:3], dtype=torch.bool)))
        return groups

    def step_groups(self, inputs: Inputs, task: list[Group]) -> list[Group]:
        """The tokens of every time step."""
        return self.arranged(self.look(inputs), inputs, task)

    def sequence(self, task: list[Group], steps: list[Group]) -> tuple[Tensor, Tensor]:
        """All tokens in a row, (B, T, width), and what is added to their (B, 1, T, T) scores."""
        bias = additive(attention_mask(task, steps, correct=self.config.correct_attention), self.dtype)
        together = torch.cat([group.tokens for group in steps], dim=2).flatten(1, 2)
        return torch.cat([*(group.tokens for group in task), together], dim=1), bias

    def attend(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, T, width) through all blocks."""
        for block in self.blocks:
            x = block(x, bias)
        return self.norm(x)

    def transform(self, task: list[Group], steps: list[Group]) -> dict[str, Group]:
        """Run the transformer; return every group with its tokens as they come out of it."""
        window = steps[0].tokens.shape[1]
        once = [group.tokens.shape[1] for group in task]
        each = [group.tokens.shape[2] for group in steps]
        x = self.attend(*self.sequence(task, steps))
        *before, after = x.split([*once, window * sum(each)], dim=1)
        parts = [*before, *after.unflatten(1, (window, -1)).split(each, dim=2)]
        found = {g.name: Group(g.name, t, g.mask) for g, t in zip([*task, *steps], parts, strict=True)}
        return found | _together(found)

    def forward(self, inputs: Inputs) -> dict[str, Group]:
        """Return the groups of tokens by name, and all observations as the group `obs`."""
        task = self.task_groups(inputs)
        return self.transform(task, self.step_groups(inputs, task))

    def _observed(self, name: str, tokens: Tensor, inputs: Inputs) -> Group:
        """The tokens of a camera or of numbers as a group."""
        seen = inputs.seen.get(name)
        real = inputs.steps if seen is None else inputs.steps & seen
        return Group(OBSERVATION + name, tokens, real[..., None].expand(tokens.shape[:3]))

    def shown(self, name: str, inputs: Inputs) -> Tensor:
        """(B × W, H, W, channels) uint8, what a camera's stem sees: pictures, and below them the goal's."""
        pictures = inputs.pictures[name]
        if self.config.cameras[name].task_stack_keys:
            goal = inputs.goals.get(name)
            goal = torch.zeros_like(pictures[:, 0]) if goal is None else goal
            pictures = torch.cat([pictures, goal[:, None].expand_as(pictures)], dim=-1)
        return pictures.flatten(0, 1)

    def _look(self, name: str, inputs: Inputs) -> Tensor:
        """(B, W, tokens, features) of a camera's pictures."""
        return self.stems[name](self.shown(name, inputs)).unflatten(0, tuple(inputs.steps.shape))

    def _count(self, settings: Numbers, values: Tensor) -> Tensor:
        """(B, W, N) numbers → (B, W, N, features)."""
        if not settings.discretize:
            return values[..., None].to(self.dtype)
        found = bins.find(values, settings.bin_type, settings.n_bins, settings.low, settings.high)
        return nn.functional.one_hot(found, settings.n_bins).to(self.dtype)

    def _placed(self, name: str, tokens: Tensor) -> Tensor:
        """Tokens of a group in the transformer's width, with their positions."""
        place = self.positions[name]
        # as rows: quantised layers take no more than three dimensions
        projected = self.projections[name](tokens.flatten(0, -2)).unflatten(0, tokens.shape[:-1])
        return projected + (place if tokens.ndim == 3 else place[:, : tokens.shape[1]])


def _features(numbers: Numbers) -> int:
    return numbers.n_bins if numbers.discretize else 1


def _position_shape(config: OctoConfig, name: str, tokens: int) -> tuple[int, ...]:
    steps = () if name.startswith(TASK) else (config.horizon,)
    return (1, *steps, tokens, config.width)


def _together(groups: Mapping[str, Group]) -> dict[str, Group]:
    """All observations as one group, for heads that read it."""
    members = [group for name, group in groups.items() if name.startswith(OBSERVATION)]
    if not members:
        return {}
    tokens = torch.cat([group.tokens for group in members], dim=2)
    return {"obs": Group("obs", tokens, torch.cat([group.mask for group in members], dim=2))}
