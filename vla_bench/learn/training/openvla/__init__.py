"""OpenVLA and OFT: action tokens, or regressed chunks."""

from vla_bench.learn.training.openvla.kind import OpenVlaKind

KIND = OpenVlaKind()
