"""Instructions as numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.diffusion import observation, write_card
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import DistilBertConfig, DistilBertModel

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.errors import ConventionError, DataError, MissingDataError
from vla_bench.policy.base import precision_report
from vla_bench.policy.cards import load_policy
from vla_bench.policy.diffusion.design import Design
from vla_bench.policy.diffusion.language import DistilBert, Words
from vla_bench.policy.diffusion.model import DiffusionNet
from vla_bench.policy.diffusion.native import save
from vla_bench.policy.diffusion.scaling import Affine

TEXTS = ["put the bowl on the plate", "put the plate on the bowl", "", "Put the BOWL, on the plate!"]


def test_words_and_their_order_count_and_how_they_are_written_does_not():
    torch.manual_seed(0)
    encode = Words(512, 8)
    found = encode(TEXTS)
    assert found.shape == (4, 8)
    assert not torch.allclose(found[0], found[1])
    assert torch.equal(found[2], torch.zeros(8))
    torch.testing.assert_close(found[3], found[0])
    torch.testing.assert_close(encode(TEXTS[1:2]), found[1:2])
    assert encode([]).shape == (0, 8)


def test_words_are_learnt():
    encode = Words(64, 4)
    encode(["a b"]).sum().backward()
    assert encode.table.weight.grad is not None
    assert int((encode.table.weight.grad.abs().sum(1) > 0).sum()) == 3, "two words and their pair"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small DistilBERT in the layout of the hub."""
    made = tmp_path_factory.mktemp("distilbert")
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "put", "the", "bowl", "plate", "on"]
    DistilBertModel(
        DistilBertConfig(vocab_size=len(words), dim=16, n_heads=2, n_layers=2, hidden_dim=32)
    ).save_pretrained(made)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=12)
    tokenizer.save(str(made / "tokenizer.json"))
    return made


def test_distilbert_gives_the_sum_over_all_tokens_without_padding(folder):
    encode = DistilBert(folder)
    model = DistilBertModel.from_pretrained(folder).eval()
    ids = torch.tensor([[2, 4, 5, 6, 8, 5, 7, 3]])
    with torch.inference_mode():
        expected = model(input_ids=ids).last_hidden_state.sum(1)
    torch.testing.assert_close(encode(TEXTS[:2])[:1], expected, atol=1e-5, rtol=0)
    assert not torch.allclose(encode(TEXTS[:1]), encode(TEXTS[1:2]))
    assert encode.size == 16
    assert not any(parameter.requires_grad for parameter in encode.parameters())
    with pytest.raises(ConventionError, match="as 768 numbers, DistilBERT gives 16"):
        encode.require(768)


def test_what_is_no_distilbert_is_refused(folder, tmp_path):
    with pytest.raises(MissingDataError, match=r"config\.json: no such file of DistilBERT"):
        DistilBert(tmp_path)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="is of a model 'bert', expected 'distilbert'"):
        DistilBert(tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "bnb_nf4"])
def test_a_policy_takes_its_instruction_from_distilbert_at_any_precision(
    folder, tmp_path, monkeypatch, precision
):
    if precision != "fp32":
        pytest.importorskip("bitsandbytes")
    design = Design.model_validate({
        "inputs": [{"key": "state", "size": 3}], "language": {"encoder": "distilbert", "size": 16},
        "network": {"step_size": 8, "widths": [64, 64], "kernel": 3}, "action_size": 7, "horizon": 8,
        "executed": 4, "diffusion": {"sampler": "ddim", "trained": 10, "steps": 2},
    })  # fmt: skip
    scalings = {
        key: Affine(torch.ones(size), torch.zeros(size)) for key, size in (("state", 3), ("action", 7))
    }
    torch.manual_seed(0)
    save(tmp_path / "ours", design, DiffusionNet(design).state_dict(), scalings)
    options = {"format": "vla_bench", "cameras": {}, "proprio": {"state": ["robot0_eef_pos"]}}
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(tmp_path / "cards"))
    write_card(tmp_path / "cards", "deaf", tmp_path / "ours", options)
    with pytest.raises(ConventionError, match="takes its instruction from DistilBERT, text_encoder is None"):
        load_policy("deaf")
    write_card(tmp_path / "cards", "told", tmp_path / "ours", {**options, "text_encoder": str(folder)})
    policy = load_policy("told", precision)
    told = [policy.act([observation(0, text), observation(1, text)]).actions for text in TEXTS[:2]]
    assert not np.array_equal(*told)
    report = precision_report(policy)
    assert report is not None
    parameters = sum(each.numel() for each in DistilBert(folder).parameters())
    assert report.parameters > parameters, "the encoder of text is counted"
    assert (report.share > 0) == (precision != "fp32")
