"""Work that is counted while it is done: against torch's own counter, and against what it must be."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vla_bench.policy.counting import work_of
from vla_bench.policy.precision import BACKENDS, backend
from vla_bench.policy.quantization.loading import quantise
from vla_bench.policy.quantization.report import describe

CPU = torch.device("cpu")
ON_CPU = [name for name, each in BACKENDS.items() if each.scheme is not None and name != "torchao_int4wo"]

LAYERS = {
    "linear": (nn.Linear(6, 10), (3, 5, 6)),
    "strided convolution": (nn.Conv2d(4, 8, 3, stride=2, padding=1), (2, 4, 9, 7)),
    "grouped convolution": (nn.Conv1d(8, 16, 5, padding=2, groups=4), (2, 8, 11)),
    "transposed convolution": (nn.ConvTranspose1d(6, 3, 4, 2, 1), (2, 6, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_operations_are_those_that_torch_counts(name):
    layer, shape = LAYERS[name]
    given = torch.zeros(shape)
    with FlopCounterMode(display=False) as counter:
        layer(given)
    work = work_of(lambda: layer(given), [layer])
    assert work.flops == counter.get_total_flops() > 0
    assert work.bytes == layer.weight.nbytes


def test_a_layer_that_runs_twice_counts_twice_and_one_that_rests_does_not():
    module = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    given = torch.zeros(1, 4)
    once = work_of(lambda: module[0](given), [module])
    twice = work_of(lambda: module[0](module[0](given)), [module])
    assert (twice.flops, twice.bytes) == (2 * once.flops, 2 * once.bytes) == (64, 128)


def test_a_module_in_two_places_counts_once():
    shared = nn.Linear(4, 4)
    given = torch.zeros(1, 4)
    assert work_of(lambda: shared(given), [nn.Sequential(shared), shared]).flops == 32


def test_nothing_is_left_behind():
    layer = nn.Linear(4, 4)
    work_of(lambda: layer(torch.zeros(1, 4)), [layer])
    assert not layer._forward_hooks


@pytest.mark.parametrize("name", ON_CPU)
def test_quantised_layers_are_read_as_they_are_stored_and_compute_as_much(name):
    module = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 128))
    given = torch.zeros(2, 128, dtype=torch.bfloat16)
    whole = module.to(torch.bfloat16)
    plain = work_of(lambda: whole(given), [whole])
    quantise(module, backend(name), device=CPU)
    report = describe({"": module}, backend(name), CPU)
    work = work_of(lambda: module(given), [module], report)
    assert work.flops == plain.flops
    assert work.bytes == report.bytes_quantised < plain.bytes
