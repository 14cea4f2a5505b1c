"""Loading holds the weights once: peak memory of a process against what it keeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.worlds import environment
from torch import nn

from vla_bench.errors import DataError, MissingCapabilityError
from vla_bench.policy.precision import BACKENDS, backend
from vla_bench.policy.quantization.loading import load, quantise
from vla_bench.policy.tensors import SINGLE, StoredTensor, weights_of

CPU = torch.device("cpu")
LAYERS, WIDTH = 256, 768
MEASURE = """
import json, re, sys
from pathlib import Path
import torch
from torch import nn
from vla_bench.policy.precision import backend
from vla_bench.policy.quantization.loading import load, quantise
from vla_bench.policy.quantization.report import describe
from vla_bench.policy.tensors import weights_of

def kilobytes(key):
    return int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

folder, name, layers, width = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
cpu, precision = torch.device("cpu"), backend(name)
warm = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(3))).eval()
quantise(warm, precision, device=cpu)
describe({"": warm}, precision, cpu)
del warm
with torch.device("meta"):
    module = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers))).eval()
stored = weights_of(folder)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
before = kilobytes("VmRSS")
load(module, stored, precision, device=cpu, source=folder)
peak = (kilobytes("VmHWM") - before) * 1024
print(json.dumps(peak / describe({"": module}, precision, cpu).bytes))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """300 MB of bfloat16."""
    folder = tmp_path_factory.mktemp("medium")
    layer = weights((WIDTH, WIDTH), seed=0)
    save_file({f"{i}.weight": layer.roll(i, 0) for i in range(LAYERS)}, folder / SINGLE)
    return folder


# nf4 goes the way of fp4
@pytest.mark.parametrize("name", ["bf16", "fp32", "bnb_int8", "bnb_fp4", "torchao_int8wo"])
def test_loading_holds_the_weights_once(folder, name):
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), name, str(LAYERS), str(WIDTH)],
        capture_output=True, text=True, env=environment(OMP_NUM_THREADS=1),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert 0.9 < float(ended.stdout) <= 1.1


def weights(shape: tuple[int, int], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def stored_in(folder: Path) -> tuple[nn.Module, Path]:
    """Two layers and a norm on the meta device, and the folder with their weights."""
    with torch.device("meta"):
        made = nn.Sequential(nn.Linear(128, 64), nn.LayerNorm(64), nn.Linear(64, 64)).eval()
    state = {
        name: weights((*t.shape, 1), seed=len(name)).squeeze(-1) for name, t in made.state_dict().items()
    }
    save_file(state, folder / SINGLE)
    return made, folder


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "torchao_int4wo"])
def test_loading_is_reading_and_then_quantising(tmp_path, name):
    streamed, folder = stored_in(tmp_path)
    whole = nn.Sequential(nn.Linear(128, 64), nn.LayerNorm(64), nn.Linear(64, 64)).eval()
    load(streamed, weights_of(folder), backend(name), device=CPU, source=folder, skip=["2"])
    whole.load_state_dict({key: tensor.read().float() for key, tensor in weights_of(folder).items()})
    quantise(whole, backend(name), device=CPU, skip=["2"])
    assert not any(tensor.is_meta for tensor in streamed.state_dict().values())
    dtype = backend(name).dtype
    assert streamed[2].weight.dtype == streamed[1].bias.dtype == dtype
    inputs = weights((5, 128), seed=1).to(dtype)
    with torch.inference_mode():
        assert torch.equal(streamed(inputs), whole(inputs))


@pytest.mark.parametrize("name", ["bf16", "bnb_nf4"])
def test_a_broken_file_is_found_before_anything_is_read(tmp_path, name):
    made, folder = stored_in(tmp_path)
    stored = weights_of(folder)
    wrong = {**stored, "2.bias": stored["0.weight"]}
    with pytest.raises(DataError, match=r"tensor '2\.bias': expected \(64,\), found \(64, 128\)"):
        load(made, wrong, backend(name), device=CPU, source=folder)
    assert all(tensor.is_meta for tensor in made.state_dict().values())
    assert type(made[0]) is nn.Linear


def test_too_little_memory_is_what_the_machine_lacks(tmp_path):
    made, folder = stored_in(tmp_path)

    def full() -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    stored = weights_of(folder)
    bias = stored["2.bias"]
    stored["2.bias"] = StoredTensor(bias.file, bias.shape, bias.dtype, full)
    with pytest.raises(MissingCapabilityError, match="at 'bnb_nf4' does not fit into the memory of cpu"):
        load(made, stored, backend("bnb_nf4"), device=CPU, source=folder)
