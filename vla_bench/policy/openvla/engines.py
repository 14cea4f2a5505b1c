"""The roads through the model by the names that cards give them."""

from __future__ import annotations

from collections.abc import Callable

from vla_bench.policy.openvla.engine import Engine, Generating, Plain
from vla_bench.policy.openvla.fast import Fast
from vla_bench.policy.openvla.model import OpenVla
from vla_bench.policy.openvla.speculative import Speculative

ENGINES: dict[str, Callable[[OpenVla], Engine]] = {
    "static": Fast,
    "speculative": Speculative,
    "plain": Plain,
    "generate": Generating,
}
