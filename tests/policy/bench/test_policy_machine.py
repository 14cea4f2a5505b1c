"""The roofline: rates that were measured, and work that the specification counts too."""

from __future__ import annotations

import json

import pytest
import torch

from vla_bench.policy.bench.machine import Machine, measured
from vla_bench.policy.openvla.config import read_config
from vla_bench.policy.openvla.model import OpenVla
from vla_bench.policy.openvla.random_weights import OPENVLA_7B
from vla_bench.policy.openvla.work import Counted, autoregressive, parallel
from vla_bench.policy.profile import Work
from vla_bench.types import PrecisionReport


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    (folder / "config.json").write_text(json.dumps(OPENVLA_7B))
    return OpenVla.on_meta(read_config(folder)).to(torch.bfloat16)


@pytest.fixture
def works(model):
    return autoregressive(Counted(model, None), 1, 282, 7)


def test_a_phase_takes_as_long_as_its_arithmetic_or_its_traffic():
    machine = Machine("m", "float32", bytes_per_s=1e9, flops_per_s=1e12)
    assert machine.ideal_ms(Work(flops=2e12, bytes=1e9)) == 2000
    assert machine.ideal_ms(Work(flops=1e12, bytes=3e9)) == 3000


def test_the_rates_of_this_machine_are_measured_once():
    machine = measured("cpu", "float32")
    assert machine.bytes_per_s > 1e8
    assert machine.flops_per_s > 1e8
    assert measured("cpu", "float32") is machine


def test_the_work_of_an_action_is_what_the_specification_counts(works):
    # one forward pass: vision .40 TFLOP, the prompt 3.69 TFLOP, and 13.36 GB for each of six steps
    assert works["inference.vision"].flops == pytest.approx(0.40e12, rel=0.02)
    assert works["inference.prefill"].flops == pytest.approx(3.69e12, rel=0.01)
    assert works["inference.decode"].bytes / 6 == pytest.approx(13.36e9, rel=0.01)
    assert works["inference.prefill"].bytes == pytest.approx(2 * (6.476e9 + 0.131e9), rel=0.001)


def test_the_roofline_of_an_h200_is_the_published_estimate(works):
    machine = Machine("H200", "bfloat16", bytes_per_s=4.3e12, flops_per_s=790e12)
    assert sum(machine.ideal_ms(work) for work in works.values()) == pytest.approx(23.8, rel=0.01)


def test_the_roofline_of_oft_is_the_published_estimate(model):
    machine = Machine("H200", "bfloat16", bytes_per_s=4.3e12, flops_per_s=790e12)
    for pictures, expected_ms in ((1, 6.2), (2, 11.1)):
        length = 26 + 256 * pictures + 56 + 1 + 1
        works = parallel(Counted(model, None), 1, pictures, length, 0)
        assert sum(map(machine.ideal_ms, works.values())) == pytest.approx(expected_ms, rel=0.05)


def test_a_batch_multiplies_arithmetic_but_reads_weights_once(model, works):
    many = autoregressive(Counted(model, None), 16, 282, 7)
    for name, work in works.items():
        assert many[name].flops == pytest.approx(16 * work.flops, rel=0.001)
        assert many[name].bytes < 2 * work.bytes


def test_quantised_layers_are_read_as_they_are_stored(model, works):
    names = [name for name, layer in model.named_modules() if hasattr(layer, "in_features")]
    report = PrecisionReport(
        "p", "b", "cpu", "bfloat16", weights="int4", layers=len(names) - 1,
        kept={"language_model.lm_head": "kept"}, parameters_quantised=1000, bytes_quantised=500,
    )  # fmt: skip
    few = autoregressive(Counted(model, report), 1, 282, 7)
    head = 2 * 32064 * 4096
    layers = works["inference.prefill"].bytes - head
    assert few["inference.prefill"].bytes == pytest.approx(layers / 4 + head, rel=1e-6)
    assert few["inference.prefill"].flops == works["inference.prefill"].flops
