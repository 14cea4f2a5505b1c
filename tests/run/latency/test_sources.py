"""Where delays come from: names, files, draws."""

import itertools
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vla_bench import catalog, listing
from vla_bench.config import read_toml
from vla_bench.errors import DataError, MissingDataError, UnknownNameError, VlaBenchError
from vla_bench.policy.bench.measure import Cell
from vla_bench.policy.bench.trace import write_trace
from vla_bench.run.latency import LATENCIES, latency_source, phase_ticks
from vla_bench.run.latency.draws import BLOCK, Lognormal

KEYS = [f"bridge_base/x#seed{seed}" for seed in range(40)]


def source(text):
    made = latency_source(text)
    assert made is not None
    return made


def drawn(text, key=KEYS[0], count=200):
    delays = source(text).delays(key)
    return [delays(call, 7) for call in range(count)]


def write(path, totals, precision="bf16", **more):
    """A trace as `bench policy --save-trace` writes it."""
    calls = {"policy": [{"inference": ms, "total": ms} for ms in totals], **more}
    write_trace(path, [Cell("p", precision, 1, "cpu", calls=calls)], {"here": "yes"})
    return path


@pytest.fixture
def trace(tmp_path):
    return write(tmp_path / "t.parquet", range(100, 200), plain=[{"total": 1e4}])


# ── what is drawn ──────────────────────────────────────────────────────────────────────────────────────


def test_zero_and_a_constant_are_exact():
    assert set(drawn("zero")) == {0}
    assert set(drawn("constant:333ms")) == {333_000_000}
    assert set(drawn("constant:0.000001ms")) == {1}
    assert source("constant:333ms").p95_ns() == 333_000_000


def test_live_is_what_was_spent_and_says_that_it_cannot_be_repeated():
    assert set(drawn("live")) == {7}
    assert not source("live").deterministic
    assert source("live").p95_ns() is None
    assert latency_source("measured") is None, "known when it runs"


def test_a_trace_gives_the_policys_own_calls(trace):
    made = drawn(f"trace:{trace}", count=2000)
    assert set(made) == {ms * 1_000_000 for ms in range(100, 200)}
    assert source(f"trace:{trace}").p95_ns() == 195_000_000


def test_sequential_draws_are_the_calls_in_their_order_from_a_drawn_place(trace):
    made = [ns // 1_000_000 for ns in drawn(f"trace:{trace}@sequential", count=150)]
    assert all((later - earlier) % 100 == 1 for earlier, later in itertools.pairwise(made))
    assert len({drawn(f"trace:{trace}@sequential", key, 1)[0] for key in KEYS}) > 10


def test_blocks_are_spells_of_calls_in_their_order(trace):
    made = [ns // 1_000_000 for ns in drawn(f"trace:{trace}@block", count=10 * BLOCK)]
    breaks = [i for i in range(1, len(made)) if (made[i] - made[i - 1]) % 100 != 1]
    assert breaks
    assert all(i % BLOCK == 0 for i in breaks)


def test_a_scale_is_another_device(trace):
    assert drawn(f"trace:{trace}@block*1.5") == [ns * 3 // 2 for ns in drawn(f"trace:{trace}@block")]
    model = "model:openvla-bnb_int8-a5000"
    assert source(f"{model}*0.5").p95_ns() == round(source(model).p95_ns() / 2)


def test_a_draw_is_keyed_by_the_episode_and_the_call_alone(trace):
    name = f"trace:{trace}"
    forwards, delays = drawn(name, count=20), source(name).delays(KEYS[0])
    assert [delays(call, 0) for call in reversed(range(20))] == forwards[::-1]
    assert drawn(name, KEYS[1], 20) != forwards


def test_a_log_normal_has_its_median_its_shift_and_its_quantile():
    model = Lognormal(shift_ns=50_000_000, median_ns=100_000_000, sigma=0.3)
    made = np.array([model.delays(KEYS[0])(call, 0) for call in range(4000)])
    assert made.min() > 50_000_000
    assert np.median(made) == pytest.approx(150e6, rel=0.02)
    assert np.mean(made <= model.p95_ns()) == pytest.approx(0.95, abs=0.015)
    assert model.p95_ns() == pytest.approx(50e6 + 100e6 * math.exp(0.3 * 1.644854), rel=1e-6)


def test_a_phase_is_drawn_once_an_episode_over_the_whole_period():
    phases = [phase_ticks(key, 10) for key in KEYS]
    assert phases == [phase_ticks(key, 10) for key in KEYS]
    assert set(phases) <= set(range(10))
    assert len(set(phases)) > 5
    assert phase_ticks(KEYS[0], 1) == 0


def test_every_shipped_model_is_read_and_tells_its_source():
    names = catalog.latency_files(".toml")
    assert len(names) >= 7
    for name in names:
        table = catalog.latency_files(".toml")[name].read_text()
        assert "source = " in table
        assert source(f"model:{name}").p95_ns() > 0
    rates = {name: 1e9 / source(f"model:openvla-{name}").p95_ns() for name in
             ("bf16-a5000", "bnb_int8-a5000", "bnb_fp4-a5000", "bf16-rtx4090")}  # fmt: skip
    assert list(rates.values()) == pytest.approx([5, 1.2, 3, 6])


# ── rooflines ──────────────────────────────────────────────────────────────────────────────────────────

# quantization.md section 4, one stream on an H200: bytes / 4.3 TB/s or operations / 790 TFLOP/s, by phase
PUBLISHED_MS = {
    "openvla-bf16": 23.8, "openvla-torchao_int8wo": 14.8, "openvla-torchao_fp8": 12.5,
    "openvla-torchao_int4wo": 10.6, "openvla-oft-one_image-bf16": 6.2, "openvla-oft-bf16": 11.1,
}  # fmt: skip


@pytest.mark.parametrize(("work", "ms"), PUBLISHED_MS.items())
def test_a_roofline_is_the_slower_of_arithmetic_and_traffic_phase_by_phase(work, ms):
    assert source(f"model:{work}@h200").p50_ns() / 1e6 == pytest.approx(ms, rel=0.03)


def test_a_roofline_takes_the_factor_by_which_a_device_was_found_slower():
    ideal = source("model:openvla-bnb_int8@rtx-a5000").p50_ns()
    assert source("model:openvla-bnb_int8@rtx-a5000*12").p50_ns() == pytest.approx(12 * ideal, abs=12)
    assert set(drawn("model:openvla-bnb_int8@rtx-a5000*12")) == {round(12 * ideal)}


def test_the_work_of_openvla_is_that_of_its_layers():
    """Counted from the architecture, without weights: every number of the shipped files."""
    torch = pytest.importorskip("torch")
    from vla_bench.policy.openvla.checkpoint import NOT_QUANTISED, config_of
    from vla_bench.policy.openvla.model import OpenVla
    from vla_bench.policy.openvla.random_weights import random_source
    from vla_bench.policy.openvla.work import Counted, autoregressive, parallel
    from vla_bench.types import PrecisionReport

    made = random_source(None, ["x"], torch.device("cpu"))
    model = OpenVla.on_meta(config_of(made)).to(torch.bfloat16)

    def counted(bytes_of_a_weight):
        kept = dict.fromkeys(NOT_QUANTISED, "")
        report = PrecisionReport("p", "b", "cpu", "bf16", layers=1, kept=kept, parameters_quantised=10**6,
                                 bytes_quantised=round(bytes_of_a_weight * 10**6))  # fmt: skip
        return Counted(model, report if bytes_of_a_weight < 2 else None)

    weights = {"bf16": 2, "bnb_int8": 1, "torchao_int8wo": 1, "torchao_fp8": 1,
               "bnb_fp4": 0.5 + 4 / 64, "torchao_int4wo": 0.5 + 4 / 128}  # fmt: skip
    works = {f"openvla-{name}": autoregressive(counted(size), 1, 282, 7) for name, size in weights.items()}
    works["openvla-oft-one_image-bf16"] = parallel(counted(2), 1, 1, 256 + 26 + 56 + 1, 0)
    works["openvla-oft-bf16"] = parallel(counted(2), 1, 2, 512 + 26 + 56 + 2, 0)
    assert works.keys() == catalog.latency_files(".toml", "work").keys()
    for name, path in catalog.latency_files(".toml", "work").items():
        table = read_toml(path)["phases"]
        for phase, work in works[name].items():
            said = table[phase.removeprefix("inference.")]
            assert said["tflop"] == pytest.approx(work.flops / 1e12, rel=1e-3), (name, phase)
            assert said["gb"] == pytest.approx(work.bytes / 1e9, rel=1e-3), (name, phase)


def test_every_roofline_that_a_device_can_do_is_listed():
    rows = {row["latency"]: row for row in listing.latencies()}
    assert rows["model:openvla-bf16@h200"] | {"title": ""} == {
        "latency": "model:openvla-bf16@h200", "ms": "23.8", "certainty": "computed", "title": "",
    }  # fmt: skip
    assert "model:openvla-torchao_fp8@rtx-a5000" not in rows
    for name in rows:
        assert source(name).p50_ns() > 0


def test_a_source_knows_its_median(trace):
    assert source("constant:333ms").p50_ns() == 333_000_000
    assert source(f"trace:{trace}").p50_ns() == 149_500_000
    assert source(f"trace:{trace}*2").p50_ns() == 299_000_000
    assert Lognormal(50, 100, 0.3).p50_ns() == 150
    assert source("live").p50_ns() is None


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("zer", "unknown latency source 'zer'; did you mean 'zero'"),
        ("zero:3", "zero stands alone"),
        ("live:", "live stands alone"),
        ("constant", "expected milliseconds"),
        ("constant:333", "for example constant:333ms"),
        ("constant:-3ms", "expected milliseconds"),
        ("constant:nanms", "expected milliseconds"),
        ("constant:0.0000001ms", "whole nanoseconds"),
        ("constant:4000000ms", "up to an hour"),
        ("model", "expected model:NAME"),
        ("model:openvla-bf16-a50000", "did you mean 'openvla-bf16-a5000'"),
        ("model:openvla-bf16@h100@h200", "expected model:NAME@DEVICE"),
        ("model:openvla-bf16@h300", "unknown device 'h300'; did you mean 'h200' or 'h100'"),
        ("model:openvla@h200", "unknown work of a policy 'openvla'"),
        (
            "model:openvla-torchao_fp8@rtx-a5000",
            "'rtx-a5000' has no rate for fp8 products; known: bf16, int8",
        ),
        ("trace:", "expected trace:NAME"),
        ("trace:nobody", "unknown latency trace 'nobody'"),
        ("trace:no/such.parquet", "no such file"),
        ("trace:x@bootstrap", "unknown way to draw from a trace: 'bootstrap'"),
    ],
)
def test_a_wrong_name_says_what_there_is(name, said):
    assert name.partition(":")[0] in (*LATENCIES, "zer")
    with pytest.raises((VlaBenchError, UnknownNameError, MissingDataError), match=said):
        latency_source(name)


@pytest.mark.parametrize("value", [-1.0, None, math.nan, math.inf, 1e9])
def test_a_delay_that_is_none_is_refused_with_its_call(tmp_path, value):
    path = write(tmp_path / "t.parquet", [100.0, value, 100.0])
    with pytest.raises(VlaBenchError, match="total_ms of call 1"):
        latency_source(f"trace:{path}")


def test_of_several_precisions_one_is_chosen(tmp_path):
    path = tmp_path / "t.parquet"
    cells = [
        Cell("p", precision, batch, "cpu", calls={"policy": [{"total": ms}]})
        for precision, batch, ms in (("bf16", 1, 10.0), ("bnb_int8", 1, 80.0), ("bf16", 4, 99.0))
    ]
    write_trace(path, cells, {})
    assert set(drawn(f"trace:{path}#bnb_int8")) == {80_000_000}
    assert set(drawn(f"trace:{path}#bf16@block*2")) == {20_000_000}, "a robot asks for itself alone"
    with pytest.raises(VlaBenchError, match=r"holds p at bf16, p at bnb_int8; choose a precision"):
        latency_source(f"trace:{path}")
    with pytest.raises(VlaBenchError, match="no call at precision 'bnb_int4'; did you mean"):
        latency_source(f"trace:{path}#bnb_int4")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(DataError, match="is no Parquet file"):
        latency_source(f"trace:{tmp_path}/a.parquet")
    pq.write_table(pa.table({"ms": [1.0]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="has no column policy, precision, batch"):
        latency_source(f"trace:{tmp_path}/b.parquet")


def test_a_users_own_latencies_are_found_by_name(tmp_path, monkeypatch):
    folder = tmp_path / "latencies"
    folder.mkdir()
    write(folder / "mine.parquet", [5.0])
    (folder / "slow.toml").write_text(
        'title = "t"\nsource = "me"\ncertainty = "primary"\nshift_ms = 10\nmedian_ms = 90\nsigma = 0.2\n'
    )
    (folder / "bad.toml").write_text('title = "t"\nsource = "me"\ncertainty = "primary"\nmedian = 90\n')
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path))
    assert set(drawn("trace:mine")) == {5_000_000}
    assert min(drawn("model:slow")) > 10_000_000
    with pytest.raises(DataError, match="unknown key 'median'; did you mean 'median_ms'"):
        latency_source("model:bad")


def test_the_content_of_a_file_is_told_apart_from_its_name(tmp_path):
    one = source(f"trace:{write(tmp_path / 't.parquet', [1.0, 2.0])}").content
    other = source(f"trace:{write(tmp_path / 't.parquet', [1.0, 3.0])}").content
    assert one != other
    assert json.loads(pq.read_schema(tmp_path / "t.parquet").metadata[b"vla_bench"])["here"] == "yes"
