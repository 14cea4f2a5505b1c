"""The names of precisions, and what each needs."""

from __future__ import annotations

import sys

import pytest
import torch

from vla_bench.errors import MissingCapabilityError, UnknownNameError
from vla_bench.policy.precision import BACKENDS, backend

CPU = torch.device("cpu")
NAMES = (
    "fp32", "bf16", "bnb_int8", "bnb_fp4", "bnb_nf4", "torchao_int8wo", "torchao_int4wo", "torchao_fp8",
)  # fmt: skip


def test_the_names_are_those_of_cards_and_records():
    assert tuple(BACKENDS) == NAMES
    assert all(backend(name).name == name for name in NAMES)


def test_an_unknown_precision_names_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown precision 'bnb_int9'; did you mean 'bnb_int8'"):
        backend("bnb_int9")


def test_the_papers_four_bits_compute_in_float32_and_those_of_its_readme_in_bfloat16():
    schemes = {name: BACKENDS[name].scheme for name in ("bnb_fp4", "bnb_nf4")}
    assert {name: (s.weights, s.compute_setting) for name, s in schemes.items() if s is not None} == {
        "bnb_fp4": ("fp4", "float32"),
        "bnb_nf4": ("nf4", "bfloat16"),
    }


def test_what_needs_a_gpu_says_so_in_a_sentence():
    with pytest.raises(MissingCapabilityError) as refused:
        backend("torchao_int4wo").require(CPU)
    assert str(refused.value) == (
        "precision 'torchao_int4wo' needs a CUDA GPU of compute capability 8.0 or newer, this device is cpu"
    )


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("fp32", "bf16", "torchao_int4wo")])
def test_a_processor_is_enough_for_the_others(name):
    backend(name).require(CPU)


@pytest.mark.parametrize(("name", "package"), [("bnb_nf4", "bitsandbytes"), ("torchao_fp8", "torchao")])
def test_a_package_that_is_not_installed_is_named_with_what_to_install(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingCapabilityError, match=rf"'{name}' needs the package '{package}': pip install 'vla-bench\[q"
    ):
        backend(name).require(CPU)
