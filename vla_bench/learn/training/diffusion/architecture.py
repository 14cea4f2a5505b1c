"""A new Diffusion Policy: what it is made of, and its initial weights."""

from __future__ import annotations

from vla_bench import seeding
from vla_bench.learn.architecture import Architecture
from vla_bench.learn.training.diffusion.scalings import scalings_of
from vla_bench.learn.training.initial import initial_weights, t5_spread
from vla_bench.learn.training.kind import Origin
from vla_bench.policy.diffusion.conventions import Conventions
from vla_bench.policy.diffusion.design import Design
from vla_bench.policy.diffusion.model import DiffusionNet
from vla_bench.policy.diffusion.native import save


class DiffusionArchitecture(Architecture):
    """A file of the family `diffusion`.

    Attributes:
        design: What the policy is made of; the size of its pictures is that of the data's.
    """

    design: Design


def new_diffusion(architecture: DiffusionArchitecture, origin: Origin[Conventions], seed: int) -> None:
    """Write a policy with initial weights into `origin.base`.

    Raises:
        ConventionError, MissingCapabilityError: The data do not have its inputs.
    """
    design = architecture.design
    heads = design.language.heads if design.language is not None else 1

    def spread(name: str, shape: tuple[int, ...]) -> float | None:
        if name == "language.table.weight":
            return 0.1
        return t5_spread(name, shape, heads)

    draws = seeding.generator("policy", "diffusion", "initial weights", seed)
    weights = initial_weights(DiffusionNet.on_meta(design), draws, spread)
    (table,) = origin.statistics.values()
    save(origin.base, design, weights, scalings_of(table, design, origin.conventions))
