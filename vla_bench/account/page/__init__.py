"""The page of a results folder: plain HTML that opens from disk and loads nothing from elsewhere."""

from vla_bench.account.page.page import write_page, write_single_file

__all__ = ["write_page", "write_single_file"]
