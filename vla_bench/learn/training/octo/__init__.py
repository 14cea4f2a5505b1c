"""Octo: a transformer over tokens of the task and of a window of observations, with a diffusion head."""

from vla_bench.learn.training.octo.kind import OctoKind

KIND = OctoKind()
