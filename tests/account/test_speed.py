"""Reading and summarising a run; with VLA_BENCH_LONG=1 and -s, what 100,000 records take is printed."""

import os
import time

from support.records import make_header, make_record

from vla_bench import seeding
from vla_bench.account.assembly import assemble
from vla_bench.run.records import Inferences, compact, encode, garbage_kept, open_run, read_run

COUNT = 100_000 if os.environ.get("VLA_BENCH_LONG") else 1_000
CALLS = 20


def write_lines(folder):
    """Two arms on ten tasks, from four workers; each inference takes another time."""
    draw = seeding.generator("statistics", "test speed")
    made = [make_record(policy=policy, task=f"t{task}") for policy in "ab" for task in range(10)]
    open_run(folder, make_header(made))
    files = [(folder / f"episodes-{worker}.jsonl").open("wb") for worker in range(4)]
    for i in range(COUNT):
        like, status = made[i % 20], ("success", "failure")[int(draw.integers(2))]
        inferences = Inferences(*(50 * draw.random((5, CALLS))))
        record = make_record(
            status,
            policy=like.policy,
            task=like.stem,
            index=i // 20,
            inferences=inferences,
            worker=str(i % 4),
        )
        files[i % 4].write(encode(record))
    for file in files:
        file.close()


def test_a_compacted_run_is_the_run_and_gives_the_same_tables(tmp_path):
    folder = tmp_path / "run"
    write_lines(folder)
    from_lines = read_run(folder)
    compact(folder)
    started = time.process_time()
    with garbage_kept():
        compacted = read_run(folder)
        read = time.process_time()
        made = assemble(compacted)
    ended = time.process_time()
    print(f"{COUNT} records: read in {read - started:.2f}, summarised in {ended - read:.2f} CPU seconds")
    assert made.tables == assemble(from_lines).tables
    assert compacted.records == from_lines.records
