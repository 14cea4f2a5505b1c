"""CUDA graphs: a function of tensors is recorded once and replayed, without a launch for every kernel.

A model of many layers starts thousands of kernels for an action, and the small ones of a batch of one run
faster than Python can start them. Elsewhere than on CUDA, functions are called as they are.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]

# A graph is recorded for every length of a prompt; LIBERO's largest suite has fewer than this many.
KEPT = 48


@dataclass(frozen=True, slots=True)
class _Recording:
    """A graph with the tensors that it reads and writes, whose places in memory are fixed."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Graphs:
    """Calls functions; on CUDA, replays what a function did when it was first called with such tensors.

    A function may read and write other tensors too (a cache, weights) as long as they stay where they are.
    It must not look at values: no step may wait for the device. One that does is found out before it is
    recorded, is called as it is from then on, and stands in `refused`.

    Attributes:
        refused: Name of a function → why it cannot be recorded.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._recordings: OrderedDict[Hashable, _Recording] = OrderedDict()
        self._stream: Any = None
        self._pool: Any = None
        self.refused: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._recordings)

    def facts(self) -> dict[str, str | float]:
        """Return how many recordings there are, and which functions could not be recorded, and why."""
        if self._device.type != "cuda":
            return {}
        return {"graphs": len(self), **{f"no graph of {name}": why for name, why in self.refused.items()}}

    @torch.inference_mode()
    def __call__(
        self, name: str, function: Function, *inputs: Tensor, key: Hashable = None
    ) -> tuple[Tensor, ...]:
        """Return `function(*inputs)`, in tensors of its own.

        Args:
            name: Of the function.
            function: Of the tensors alone, for one name, key and shape of the inputs.
            inputs: On the device.
            key: What else decides what the function does.
        """
        if self._device.type != "cuda" or name in self.refused:
            return function(*inputs)
        place = (name, key, *((x.shape, x.dtype) for x in inputs))
        if place not in self._recordings:
            made = self._record(name, function, inputs)
            if made is None:
                return function(*inputs)
            self._recordings[place] = made
            if len(self._recordings) > KEPT:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(place)
        recording = self._recordings[place]
        for held, given in zip(recording.inputs, inputs, strict=True):
            held.copy_(given)
        recording.graph.replay()
        return tuple(output.clone() for output in recording.outputs)

    def _record(self, name: str, function: Function, inputs: tuple[Tensor, ...]) -> _Recording | None:
        """Record the function, or None where it cannot be."""
        held = tuple(x.clone() for x in inputs)
        self._stream = self._stream or torch.cuda.Stream(self._device)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                # libraries set themselves up at the first call; what they do then must not be recorded
                function(*held)
                reason = _waits(function, held)
            torch.cuda.current_stream().wait_stream(self._stream)
            torch.cuda.synchronize()
            if reason is not None:
                self.refused[name] = reason
                return None
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                outputs = function(*held)
        return _Recording(graph, held, outputs)


def _waits(function: Function, inputs: tuple[Tensor, ...]) -> str | None:
    """Why a function cannot be recorded: it waits for the device; None if it does not.

    Recording would fail as well, but leave the allocator waiting for its end.
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        function(*inputs)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return None
