"""Laws of quantised layers: error bounds by block, what is taken, what stays, what is reported."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vla_bench.errors import UnknownNameError
from vla_bench.policy.precision import BACKENDS, backend
from vla_bench.policy.quantization.loading import quantise
from vla_bench.policy.quantization.report import describe
from vla_bench.policy.quantization.scheme import Scheme, choose

CPU = torch.device("cpu")
ON_CPU = [name for name, each in BACKENDS.items() if each.scheme is not None and name != "torchao_int4wo"]
SHAPES = [(64, 128), (33, 70), (200, 64), (7, 6)]
# The sixteen values of each table, of which the largest magnitude is 1.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
    1.0,
)  # fmt: skip
FP4 = sorted(sign * value / 12 for sign in (-1, 1) for value in (0, 0.0625, 8, 12, 4, 6, 2, 3))


class Model(nn.Module):
    """A little of everything: layers that are taken, that are kept, and that are no linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 128)
        self.conv = nn.Conv1d(128, 128, 1)
        self.body = nn.Sequential(nn.Linear(128, 256), nn.LayerNorm(256), nn.GELU(), nn.Linear(256, 128))
        self.attention = nn.MultiheadAttention(128, 4, batch_first=True)
        self.head = nn.Linear(128, 10)
        self.tied = nn.Linear(128, 10, bias=False)
        self.tied.weight = self.embed.weight
        self.register_buffer("scale", torch.full((1,), 0.5), persistent=False)
        self.eval()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.conv(self.embed(ids).mT).mT * self.scale.to(self.conv.weight.dtype)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.body(x)) + self.tied(x)


def model(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return Model()


def scheme_of(name: str) -> Scheme:
    scheme = backend(name).scheme
    assert scheme is not None
    return scheme


def linear(weight: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta").eval()
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def weights(shape: tuple[int, int], seed: int, spread: float = 1.0) -> torch.Tensor:
    """bfloat16, so that nothing is rounded before it is quantised."""
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(shape, generator=generator)).bfloat16()


def converted(name: str, weight: torch.Tensor) -> torch.Tensor:
    scheme = scheme_of(name)
    return scheme.dequantised(scheme.convert(linear(weight.clone()))).float()


@pytest.mark.parametrize(("name", "table"), [("bnb_nf4", NF4), ("bnb_fp4", FP4)])
@pytest.mark.parametrize("shape", SHAPES)
def test_four_bit_weights_are_the_nearest_entries_of_the_table_block_by_block(name, table, shape):
    weight = weights(shape, seed=1)
    found = converted(name, weight).numpy().ravel()
    values = weight.float().numpy().ravel()
    table = np.array(table, np.float32)
    for start in range(0, values.size, 64):
        block = values[start : start + 64]
        largest = np.abs(block).max()
        # a tie may fall either way: not the entry is compared but the distance
        nearest = np.abs(block[:, None] - largest * table).min(axis=1)
        off = np.abs(found[start : start + 64] - block)
        # the table itself is stored to 1e-3 (fp4's thresholds), the result in bfloat16
        assert (off <= nearest + largest * 2**-8).all()
        assert off.max() <= largest * (np.diff(table).max() / 2 + 2**-8)


@pytest.mark.parametrize(("name", "table"), [("bnb_nf4", NF4), ("bnb_fp4", FP4)])
def test_a_block_of_table_entries_comes_back_as_it_was(name, table):
    entries = torch.tensor(table).repeat(4)[None] * 4.0
    torch.testing.assert_close(converted(name, entries.bfloat16()), entries, rtol=2**-7, atol=0.01)


@given(st.integers(0, 2**16), st.sampled_from(SHAPES), st.floats(1e-3, 1e2))
def test_eight_bits_are_off_by_at_most_half_a_step_of_their_row(seed, shape, spread):
    weight = weights(shape, seed, spread)
    largest = weight.float().abs().amax(1, keepdim=True)
    for name, rounding in (("bnb_int8", 2**-11), ("torchao_int8wo", 2**-8)):
        # bitsandbytes takes the weight as float16, torchao gives it back as bfloat16
        bound = largest * (0.5 / 127 + rounding)
        assert ((converted(name, weight) - weight.float()).abs() <= bound).all(), name


@given(st.integers(0, 2**16), st.sampled_from(SHAPES))
def test_eight_bit_floats_are_off_by_at_most_a_sixteenth(seed, shape):
    weight = weights(shape, seed)
    largest = weight.float().abs().amax(1, keepdim=True)
    # three bits of mantissa; below 2⁻⁶ of the scale, which puts the largest at 448, steps are even
    bound = weight.float().abs() * (2**-4 + 2**-7) + largest / 448 * 2**-10
    assert ((converted("torchao_fp8", weight) - weight.float()).abs() <= bound).all()


@pytest.mark.parametrize("name", ["bnb_int8", "bnb_nf4"])
def test_quantising_in_pieces_changes_nothing(name, monkeypatch):
    weight = weights((700, 96), seed=3)
    whole = converted(name, weight)
    monkeypatch.setattr("vla_bench.policy.quantization.bitsandbytes._AT_ONCE", 1000)
    assert torch.equal(converted(name, weight), whole)


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_multiplies_by_the_weight_that_it_says(name, shape):
    """On any processor, and for any size; int8 rounds the inputs too."""
    scheme, weight = scheme_of(name), weights(shape, seed=4, spread=0.1)
    layer = scheme.convert(linear(weight))
    inputs = weights((3, 6, shape[1]), seed=5)
    expected = inputs.float() @ scheme.dequantised(layer).float().T
    with torch.inference_mode():
        found = layer(inputs)
    assert (found.dtype, found.shape) == (torch.bfloat16, expected.shape)
    bound = 0.02 if name == "bnb_int8" else 0.006
    assert (found.float() - expected).abs().max() <= bound * expected.abs().max()


def test_float32_of_the_papers_four_bits_is_effective():
    """The kernel for some processors would round to bfloat16 whatever is set."""
    scheme, inputs = scheme_of("bnb_fp4"), torch.randn(4, 128, generator=torch.Generator().manual_seed(6))
    layer = scheme.convert(linear(weights((64, 128), seed=7)))
    with torch.inference_mode():
        found = layer(inputs)
    expected = inputs.double() @ scheme.dequantised(layer).double().T
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert scheme.computes(layer, torch.bfloat16) == "float32"


@pytest.mark.parametrize("name", ON_CPU)
def test_only_plain_linear_layers_are_taken_and_the_rest_keeps_its_type(name):
    made, scheme = model(), scheme_of(name)
    assert choose(made, scheme, ["head"]) == {"body.0", "body.3"}
    quantise(made, backend(name), device=CPU, skip=["head"])
    assert [n for n, layer in made.named_modules() if scheme.is_converted(layer)] == ["body.0", "body.3"]
    others = {n: p for n, p in made.named_parameters() if not n.startswith(("body.0", "body.3"))}
    assert {p.dtype for p in others.values()} == {torch.bfloat16}
    original = model().state_dict()
    assert all(torch.equal(p, original[n].bfloat16()) for n, p in others.items())
    assert {"head.weight", "tied.weight", "attention.out_proj.weight", "conv.weight"} <= set(others)
    report = describe({"": made}, backend(name), CPU)
    assert set(report.kept) == {"head", "tied", "attention.out_proj"}


@pytest.mark.parametrize("name", ON_CPU)
def test_a_quantised_model_stays_near_the_original(name):
    ids = torch.arange(10).reshape(2, 5)
    with torch.inference_mode():
        expected = model()(ids)
        made = model()
        quantise(made, backend(name), device=CPU)
        found = made(ids).float()
    assert not torch.equal(found, expected)
    assert (found - expected).norm() <= 0.12 * expected.norm()


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_precision_without_a_scheme_only_changes_the_type(name):
    made, original = model(), model()
    quantise(made, backend(name), device=CPU)
    for key, value in made.state_dict().items():
        assert torch.equal(value, original.state_dict()[key].to(backend(name).dtype))
    report = describe({"": made}, backend(name), CPU)
    assert (report.layers, report.share, report.weights, report.kernels) == (0, 0.0, "", {})
    assert report.bytes == backend(name).dtype.itemsize * report.parameters


def test_a_module_to_skip_that_does_not_exist_is_named():
    with pytest.raises(UnknownNameError, match="unknown module 'heda'; did you mean 'head'"):
        choose(model(), scheme_of("bnb_int8"), ["heda"])


def test_four_bits_leave_odd_rows():
    made = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 6)).eval()
    quantise(made, backend("bnb_nf4"), device=CPU)
    assert describe({"": made}, backend("bnb_nf4"), CPU).kept == {"1": "rows of 5 weights are odd"}


def test_everything_in_a_skipped_module_is_kept():
    assert choose(model(), scheme_of("bnb_int8"), ["body"]) == {"head"}
    assert choose(model(), scheme_of("bnb_int8"), ["body.0"]) == {"body.3", "head"}


BYTES = {
    "bnb_int8": lambda out, width: out * width + 4 * out,
    "bnb_fp4": lambda out, width: out * width // 2 + 4 * (out * width // 64) + 64,
    "bnb_nf4": lambda out, width: out * width // 2 + 4 * (out * width // 64) + 64,
    "torchao_int8wo": lambda out, width: out * width + 4 * out,
    "torchao_fp8": lambda out, width: out * width + 4 * out,
}


@pytest.mark.parametrize("name", ON_CPU)
def test_the_report_counts_parameters_and_bytes(name):
    made = model()
    every = sum(p.numel() for p in made.parameters()) + made.tied.weight.numel()
    quantise(made, backend(name), device=CPU, skip=["head"])
    report, shapes = describe({"net": made}, backend(name), CPU), [(256, 128), (128, 256)]
    assert (report.precision, report.layers, report.device) == (name, 2, "cpu")
    assert (report.parameters, report.parameters_quantised) == (every, 2 * 256 * 128)
    assert report.bytes_quantised == sum(BYTES[name](*shape) for shape in shapes)
    wide = 256 + 128 if name == "bnb_fp4" else 0  # biases become float32, which it computes in
    assert report.bytes - report.bytes_quantised == 2 * (every - 2 * 256 * 128) + 2 * wide
    assert set(report.kept) == {"net.head", "net.tied", "net.attention.out_proj"}
    assert report.share == pytest.approx(2 * 256 * 128 / every)
    assert (report.share >= 0.5) == ("less than half" not in str(report))
    assert all(
        word in str(report) for word in (name, report.weights, f"{100 * report.share:.1f} %", "2 of 5")
    )


@pytest.mark.parametrize("name", ON_CPU)
def test_the_report_says_what_multiplied_and_in_which_type(name):
    made = model()
    quantise(made, backend(name), device=CPU)
    report = describe({"": made}, backend(name), CPU)
    assert set(report.kernels) == {"1", "256"}
    assert "unknown" not in report.kernels.values()
    # weight-only layers are converted back on a processor; whether int8 is depends on the processor
    if name != "bnb_int8":
        assert not report.low_bit_kernels
        assert set(report.kernels.values()) <= {"aten::mm", "aten::addmm"}
        assert report.compute == report.compute_setting == ("float32" if name == "bnb_fp4" else "bfloat16")
    assert report.batch_independent == (name != "bnb_int8")


@pytest.mark.parametrize("name", [name for name in ON_CPU if name != "bnb_int8"])
def test_a_row_is_the_same_in_any_batch_where_that_is_promised(name):
    layer = scheme_of(name).convert(linear(weights((64, 128), seed=8)))
    inputs = weights((5, 128), seed=9)
    inputs[3] *= 100
    with torch.inference_mode():
        together = layer(inputs)
        alone = torch.cat([layer(row[None]) for row in inputs])
    torch.testing.assert_close(together, alone, rtol=2**-7, atol=1e-3)


def test_an_outlier_in_another_row_changes_int8s_answer():
    """Why it promises nothing: columns with outliers are those of the whole batch."""
    layer = scheme_of("bnb_int8").convert(linear(weights((64, 128), seed=8)))
    row = weights((1, 128), seed=9)
    calm, loud = row.clone(), row.clone()
    loud[0, ::2] = 50.0
    with torch.inference_mode():
        beside_calm, beside_loud = (layer(torch.cat([row, other]))[0] for other in (calm, loud))
    assert not torch.equal(beside_calm, beside_loud)


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@GPU
@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name, each in BACKENDS.items() if each.scheme is not None])
def test_a_gpu_gives_the_answers_of_the_dequantised_weight_and_says_by_which_kernel(name):
    scheme, device = scheme_of(name), torch.device("cuda")
    made = nn.Sequential(nn.Linear(1024, 512), nn.Linear(512, 256)).eval()
    quantise(made, backend(name), device=device)
    inputs = weights((3, 1024), seed=5).to(device)
    with torch.inference_mode():
        hidden = inputs.float() @ scheme.dequantised(made[0]).float().T + made[0].bias.float()
        found = made[0](inputs).float()
    assert (found - hidden).abs().max() <= 0.02 * hidden.abs().max()
    report = describe({"": made}, backend(name), device)
    assert "unknown" not in report.kernels.values()
    assert report.device.startswith("cuda")
    if name in ("bnb_int8", "torchao_int4wo"):
        assert report.low_bit_kernels


@GPU
@pytest.mark.gpu
def test_four_bits_of_torchao_leave_rows_that_are_no_whole_groups():
    made = nn.Sequential(nn.Linear(1152, 4304), nn.Linear(4304, 1152))
    quantise(made, backend("torchao_int4wo"), device=torch.device("cuda"))
    report = describe({"": made}, backend("torchao_int4wo"), torch.device("cuda"))
    assert report.kept == {"1": "rows of 4304 weights are not divisible by 128"}
