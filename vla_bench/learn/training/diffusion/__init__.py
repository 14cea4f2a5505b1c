"""Diffusion Policy: noise is predicted in a chunk of actions."""

from vla_bench.learn.training.diffusion.kind import DiffusionKind

KIND = DiffusionKind()
