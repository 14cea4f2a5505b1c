"""The figures of a report, one module a kind."""

from vla_bench.account.figures.figure import Figure, write_figure

__all__ = ["Figure", "write_figure"]
