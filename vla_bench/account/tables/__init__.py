"""The tables of a report, one module a kind."""

from vla_bench.account.tables.table import Number, Table

__all__ = ["Number", "Table"]
