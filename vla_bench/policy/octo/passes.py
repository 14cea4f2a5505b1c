"""Model and head as passes: functions of tensors that CUDA records once and replays."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial

import torch
from torch import Tensor

from vla_bench.policy.graphs import Function, Graphs
from vla_bench.policy.octo.heads import Head
from vla_bench.policy.octo.model import Inputs, Octo
from vla_bench.policy.stopwatch import Stopwatch

Names = tuple[str, ...]


class Passes:
    """Pictures to tokens, tokens through the transformer, and the head with all its steps: a graph each.

    Elsewhere than on CUDA the same functions are called as they are.

    Args:
        model, head: With weights.
        graphs: Records and replays; None calls the functions as they are everywhere.
    """

    def __init__(self, model: Octo, head: Head, graphs: Graphs | None) -> None:
        self.model, self.head, self.graphs = model, head, graphs

    @torch.inference_mode()
    def __call__(self, told: Inputs, drawn: Tensor | None, size: int, watch: Stopwatch) -> Tensor:
        """Answer B windows.

        Args:
            told: With the texts; all pictures of a camera that is there are looked at.
            drawn: (B, …) random numbers of the head; None for the likeliest answer.
            size: Numbers of an action that the body has.
            watch: Marked after every pass: `inference.vision`, `inference.transformer`, `inference.head`.

        Returns:
            (B, T, A) float32, normalised.
        """
        names = (tuple(told.pictures), tuple(told.goals), tuple(told.numbers))
        seen = self._run("vision", partial(self._look, names), told.steps, *_tensors(told), key=names)
        watch.mark("inference.vision")
        observed = tuple(n for n in self.model.config.observations if n in told.pictures or n in told.numbers)
        text = () if told.text is None or told.has_text is None else (told.text, told.has_text)
        key = (observed, len(text))
        read = self._run("transformer", partial(self._transform, observed), told.steps, *seen, *text, key=key)
        watch.mark("inference.transformer")
        noise = () if drawn is None else (drawn,)
        (values,) = self._run("head", partial(self._answer, size), *read, *noise, key=size)
        watch.mark("inference.head")
        return values

    def facts(self) -> Mapping[str, str | float]:
        """Return how many graphs there are, and which passes could not be recorded."""
        return {} if self.graphs is None else self.graphs.facts()

    def _run(self, name: str, function: Function, *inputs: Tensor, key: Hashable) -> tuple[Tensor, ...]:
        if self.graphs is None:
            return function(*inputs)
        return self.graphs(name, function, *inputs, key=key)

    def _look(self, names: tuple[Names, Names, Names], steps: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        rest = iter(tensors)
        pictures, goals, numbers = ({name: next(rest) for name in each} for each in names)
        return tuple(self.model.look(Inputs(steps, pictures, goals=goals, numbers=numbers)).values())

    def _transform(self, observed: Names, steps: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the observations, and the text with whether it counts → what the head reads."""
        seen = dict(zip(observed, tensors, strict=False))
        text, has_text = tensors[len(observed) :] or (None, None)
        inputs = Inputs(steps, {}, text=text, has_text=has_text)
        task = self.model.task_groups(inputs)
        group = self.model.transform(task, self.model.arranged(seen, inputs, task))[self.head.reads]
        return group.tokens[:, -1].float(), group.mask[:, -1]

    def _answer(self, size: int, tokens: Tensor, mask: Tensor, drawn: Tensor | None = None) -> tuple[Tensor]:
        return (self.head(tokens, mask, drawn, size),)


def _tensors(told: Inputs) -> tuple[Tensor, ...]:
    return (*told.pictures.values(), *told.goals.values(), *told.numbers.values())
