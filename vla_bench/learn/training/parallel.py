"""One training by several processes: the passes of a step are shared out, and their gradients added up.

Started by torchrun or `accelerate launch`, each process holds all weights on a device of its own. A step has
as many passes as in one process (`accumulate`), so it is the same step whoever computes it, up to the order
of additions; a training can go on with another number of processes. One of them writes, plays and prints.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import nn

from vla_bench.errors import ConventionError, MissingCapabilityError
from vla_bench.policy.devices import pick_device

Value = TypeVar("Value")
# others wait while the first one evaluates in the simulator
_PATIENCE = timedelta(days=7)
# set by `accelerate launch` where its configuration asks for what does not exist here
_SHARDED = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of a training, seen by one of them.

    Attributes:
        rank: Its number; the first one, 0, writes.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes, plays and prints."""
        return self.rank == 0

    def passes(self, accumulate: int) -> int:
        """How many of a step's passes each process has.

        Raises:
            ConventionError: They cannot be shared out evenly.
        """
        if accumulate % self.size:
            raise ConventionError(
                f"{self.size} processes share the passes of a step: accumulate = {accumulate} is no multiple "
                f"of {self.size}; --accumulate {self.size * -(-accumulate // self.size)}, with a smaller "
                "--batch, leaves the step as large"
            )
        return accumulate // self.size

    def add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """Let every process have the sum of all gradients."""
        if self.size > 1:
            sums = [
                torch.distributed.all_reduce(value.grad, async_op=True)
                for value in parameters
                if value.grad is not None
            ]
            for each in filter(None, sums):
                each.wait()

    def all_of(self, values: Sequence[Value]) -> list[Value]:
        """The values of all processes, those of the first one first."""
        if self.size == 1:
            return list(values)
        from accelerate.utils import gather_object

        return gather_object(list(values))

    def decided(self, value: Value) -> Value:
        """What the first process says, for all of them."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    @contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """Let the first process do something before the others: they find what it has made."""
        if self.size == 1:
            yield
            return
        from accelerate import PartialState

        with PartialState().main_process_first():
            yield


ALONE = Group()


@contextmanager
def assembled(device: str) -> Iterator[tuple[Group, torch.device]]:
    """Find the other processes of this training and the device of this one, as long as the block lasts.

    Args:
        device: A name of torch's; `auto` is a GPU of its own where there are such.

    Raises:
        MissingCapabilityError: Weights should be sharded, or accelerate is not installed.
        ConventionError: There is no such device.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE, pick_device(device)
        return
    for variable, name in _SHARDED.items():
        if os.environ.get(variable, "").lower() == "true":
            raise MissingCapabilityError(
                f"{name} is configured, but weights are not sharded here: every process holds the whole "
                "model, and 16 bytes for each number that is trained (115 GB for all of openvla-7b); "
                "--strategy lora trains a hundredth of them"
            )
    try:
        from accelerate import PartialState
    except ModuleNotFoundError as error:
        raise MissingCapabilityError(
            "several processes need the package 'accelerate': pip install 'vla-bench[openvla]'"
        ) from error
    on_cpu = pick_device(device).type == "cpu"
    state = PartialState(cpu=on_cpu, timeout=_PATIENCE)
    own = torch.device("cpu" if on_cpu else f"cuda:{state.local_process_index}")
    try:
        yield Group(state.process_index, state.num_processes), own
    finally:
        state.destroy_process_group()
