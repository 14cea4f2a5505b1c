"""The processes of the policies: one for each GPU, started again when it dies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_bench.run.keeper import Keeper
from vla_bench.run.latency.measuring import Measure
from vla_bench.types import Arm

if TYPE_CHECKING:
    from vla_bench.policy.hub import Taken
    from vla_bench.policy.remote.hosted import Host, Pair
    from vla_bench.run.executors import Means
    from vla_bench.run.throughput.supply import Supply, Supplying

LOOPBACK = "127.0.0.1"


def gpus() -> tuple[str, ...]:
    """The GPUs that CUDA would find here, as `CUDA_VISIBLE_DEVICES` names them; torch is not imported."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name for name in named.split(",") if name.strip() not in ("", "-1"))
    found = (re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*"))
    return tuple(sorted(match[1] for match in found if match))


class Hosting:
    """The policies of a run that have a process of their own; a context.

    Args:
        arms: Of the run.
        means: How large batches may be, and how long loading and an answer may take.
        address: Of this machine, where simulators reach them.

    Attributes:
        hosts: Where the policies are, once for each GPU, or once where there is none.

    Raises:
        VlaBenchError: A policy cannot be loaded.
    """

    def __init__(self, arms: Iterable[Arm], means: Means, address: str) -> None:
        from vla_bench.policy.remote.hosted import hosted_pair

        found = (hosted_pair(arm.policy, arm.precision) for arm in arms)
        pairs = tuple(dict.fromkeys(pair for pair in found if pair is not None))
        self._keepers: list[Keeper] = []
        if not pairs:
            return
        try:
            for gpu in gpus() or (None,):
                self._keepers.append(Keeper(pairs, means, gpu, address))
            for keeper in self._keepers:
                keeper.wait_until_loaded()
        except BaseException:
            self.close()
            raise

    @property
    def hosts(self) -> tuple[Mapping[Pair, Host], ...]:
        """Where the policies are, once for each GPU, or once where there is none."""
        return tuple(keeper.hosts for keeper in self._keepers if keeper.hosts)

    @property
    def here(self) -> Mapping[Pair, Host]:
        """Where this process reaches them."""
        return self.hosts[0] if self.hosts else {}

    @property
    def taken(self) -> Mapping[str, Sequence[Taken]]:
        """Policy → the checkpoints that it was loaded from."""
        return self._keepers[0].served.taken if self._keepers else {}

    @property
    def device(self) -> Mapping[str, Any]:
        """Fields of a session that the device of the policies decides."""
        told = [keeper.served.device for keeper in self._keepers if keeper.served.device]
        names = dict.fromkeys(device["device"] for device in told)
        return {**told[0], "device": ", ".join(names)} if told else {}

    @property
    def gone(self) -> str:
        """Why one of the processes is not started any more; "" while all of them are."""
        return next((keeper.gone for keeper in self._keepers if keeper.gone), "")

    def can_play(self, arm: Arm) -> bool:
        """Whether the policy of an arm can be asked, or may be again."""
        from vla_bench.policy.remote.hosted import hosted_pair

        return not self.gone or hosted_pair(arm.policy, arm.precision) not in self.here

    def measure(self, asked: Measure) -> bool:
        """Record what a policy takes in its own process; returns False if it has none.

        Raises:
            VlaBenchError: It cannot be measured, or its process does not live long enough.
        """
        if (asked.arm.policy, asked.arm.precision) not in self.here:
            return False
        self._keepers[0].insist(asked)
        return True

    def supply(self, asked: Supplying) -> list[Supply]:
        """How fast a policy answers batches in its own process.

        Raises:
            VlaBenchError: It cannot be timed, or its process does not live long enough.
        """
        return self._keepers[0].insist(asked)

    def told(self) -> list[str]:
        """What answering several requests together changed, in sentences."""
        from vla_bench.run.policy_process import Tell

        return [line for keeper in self._keepers for line in keeper.ask(Tell()) or ()]

    def close(self) -> None:
        """End all of them."""
        for keeper in self._keepers:
            keeper.close()

    def __enter__(self) -> Hosting:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
