"""Ways of fine-tuning: ours and the paper's beside each other, and what could not be is said."""

from __future__ import annotations

import csv
import io

import pytest

from vla_bench.account import formats
from vla_bench.account.finetuning import Measured, finetuning_table, published

ROWS = (
    Measured("full", None, 4_700_000, 4_700_000, 1_200_000_000, 400_000_000, (1.0, 1.0), 3, 10, 1),
    Measured("lora", 32, 470_000, 5_170_000, 800_000_000, 410_000_000, (0.9, 0.7, 0.8), 2, 10, 0),
    Measured("qlora", 32, refused="bitsandbytes is not installed"),
)


def test_ours_and_the_papers_stand_in_one_row():
    table = finetuning_table(ROWS, of="a on b, 200 steps", played="bridge_base", device="cpu")
    full, lora, qlora = table.rows
    assert full[0] == "full"
    assert full[1].endswith("3/10, 1 errors")
    assert full[6:] == ("69.7 ± 7.2 %", "7188.1 M", "163.3 GB (two GPUs)")
    assert lora[0] == "lora, rank 32"
    assert lora[2:6] == ("0.47 M", "9.1 %", "800.0 MB, 410.0 MB", "0.80 [0.70, 0.90]")
    assert lora[8] == "59.7 GB"
    assert set(qlora[1:]) == {"-"}, "the paper has no such row"
    assert "qlora: bitsandbytes is not installed." in table.caption
    assert formats.to_markdown(table).count("| lora, rank 32 ") == 1


def test_numbers_have_the_columns_of_their_header():
    table = finetuning_table(ROWS, of="a", played="", device="cpu")
    rows = list(csv.DictReader(io.StringIO(formats.to_csv(table))))
    assert [len(row) for row in table.numbers] == [len(table.numbers_header)] * 3
    assert (rows[1]["step_ratio"], rows[1]["paper_memory_gb"], rows[1]["refused"]) == ("0.8", "59.7", "")
    assert (rows[2]["successes"], rows[2]["refused"]) == ("", "bitsandbytes is not installed")
    assert "Success: not played." in table.caption


@pytest.mark.parametrize(("strategy", "rank"), [("lora", 32), ("lora", 64), ("last_layer", None)])
def test_what_is_cheap_in_the_paper_trains_less_and_needs_less(strategy, rank):
    cheap, full = published()[strategy, rank], published()["full", None]
    assert cheap.trained_m < full.trained_m / 10
    assert cheap.memory_gb < full.memory_gb / 2
