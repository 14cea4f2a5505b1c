"""Rooflines: what a policy has to do, on a device that does it as fast as its memory and arithmetic let it.

The work of a policy at a precision and the rates of devices are data: `tasks/latencies/work` and `devices`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from vla_bench import catalog
from vla_bench.config import FileModel, parse, read_toml
from vla_bench.errors import UnknownNameError, VlaBenchError, suggest
from vla_bench.policy.profile import Machine, Work
from vla_bench.run.latency.draws import Lognormal, nanoseconds

Arithmetic = Literal["bf16", "int8", "fp8"]


class Phase(FileModel):
    """What a part of an inference cannot do without.

    Attributes:
        tflop: 10¹² multiplications and additions.
        gb: 10⁹ bytes of weights and caches to be read.
        arithmetic: Type that its products are computed in.
    """

    tflop: float = Field(ge=0, allow_inf_nan=False)
    gb: float = Field(ge=0, allow_inf_nan=False)
    arithmetic: Arithmetic


class PolicyWork(FileModel):
    """One inference of a policy at a precision, phase by phase."""

    name: str
    title: str
    source: str
    phases: dict[str, Phase] = Field(min_length=1)


class Device(FileModel):
    """How fast a device reads its memory, and computes in the types that it knows."""

    name: str
    title: str
    source: str
    bandwidth_tb_s: float = Field(gt=0, allow_inf_nan=False)
    tflop_s: dict[Arithmetic, float]

    def machine(self, arithmetic: Arithmetic) -> Machine:
        """Its rates for products of a type.

        Raises:
            VlaBenchError: None is known for this type.
        """
        if arithmetic not in self.tflop_s:
            known = suggest(arithmetic, self.tflop_s)
            raise VlaBenchError(f"device {self.name!r} has no rate for {arithmetic} products{known}")
        return Machine(self.name, arithmetic, 1e12 * self.bandwidth_tb_s, 1e12 * self.tflop_s[arithmetic])


def roofline(work_name: str, device_name: str, scale: float) -> Lognormal:
    """Sum over phases of max(operations / rate, bytes / bandwidth), times `scale`; without a spread.

    Measured latencies are longer, by 2 to 12 times where some were published: `scale` is that factor.

    Raises:
        UnknownNameError: No such work or device.
        DataError: A file is wrong.
        VlaBenchError: The device does not compute in a type that the work needs.
    """
    work, device = _read_work(work_name), _read_device(device_name)
    ideal_ms = sum(
        device.machine(phase.arithmetic).ideal_ms(Work(1e12 * phase.tflop, 1e9 * phase.gb))
        for phase in work.phases.values()
    )
    content = f"{work.phases!r} {device.bandwidth_tb_s!r} {device.tflop_s!r}"
    ideal_ns = nanoseconds(ideal_ms, f"latency {work_name}@{device_name}")
    return Lognormal(0, ideal_ns, 0.0, scale, hashlib.sha256(content.encode()).hexdigest())


def rooflines() -> Iterator[tuple[str, str, float]]:
    """Name, title and milliseconds of every work on every device that can do it."""
    devices = [_read_device(name) for name in catalog.latency_files(".toml", "devices")]
    for name in catalog.latency_files(".toml", "work"):
        work = _read_work(name)
        needed = {phase.arithmetic for phase in work.phases.values()}
        for device in devices:
            if needed <= device.tflop_s.keys():
                ideal_ms = roofline(name, device.name, 1.0).p50_ns() / 1e6
                yield f"{name}@{device.name}", f"{work.title}, on {device.title}: roofline", ideal_ms


def _read_work(name: str) -> PolicyWork:
    known = catalog.latency_files(".toml", "work")
    if name not in known:
        raise UnknownNameError("work of a policy", name, known)
    return parse(PolicyWork, read_toml(known[name]), known[name], given={"name": name})


def _read_device(name: str) -> Device:
    known = catalog.latency_files(".toml", "devices")
    if name not in known:
        raise UnknownNameError("device", name, known)
    return parse(Device, read_toml(known[name]), known[name], given={"name": name})
