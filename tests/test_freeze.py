"""Which blocks train: exact names for every architecture, bits, stages, bad input."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from conftest import save_tiny, tiny_config
from thaw.errors import ThawError
from thaw.freeze import Gradual, Head, Last, Names, frozen_modules

SIZE = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 64}  # fmt: skip
CONFIGS = {
    "bert": transformers.BertConfig(**SIZE, max_position_embeddings=64),
    "roberta": transformers.RobertaConfig(**SIZE, max_position_embeddings=66),
    "distilbert": transformers.DistilBertConfig(
        vocab_size=300, dim=32, n_layers=3, n_heads=4, hidden_dim=64, max_position_embeddings=64
    ),
    "mpnet": transformers.MPNetConfig(**SIZE, max_position_embeddings=66),
    "electra": transformers.ElectraConfig(**SIZE, embedding_size=16, max_position_embeddings=64),
    "deberta": transformers.DebertaV2Config(
        **SIZE, max_position_embeddings=64, relative_attention=True, pos_att_type=["p2c", "c2p"],
        position_buckets=8, norm_rel_ebd="layer_norm",
    ),
    "modernbert": transformers.ModernBertConfig(
        **SIZE, max_position_embeddings=64, pad_token_id=0, bos_token_id=2, eos_token_id=3,
        cls_token_id=2, sep_token_id=3,
    ),
}  # fmt: skip
# What else trains with the last block, and how a block and the head are spelled.
BLOCK = {"distilbert": "distilbert.transformer.layer.{}.", "modernbert": "model.layers.{}."}
HEADS = {
    "bert": ("bert.pooler.", "classifier."),
    "roberta": ("classifier.",),
    "distilbert": ("pre_classifier.", "classifier."),
    "mpnet": ("classifier.",),
    "electra": ("classifier.",),
    "deberta": ("pooler.", "classifier."),
    "modernbert": ("head.", "classifier."),
}


def make(name, auto=AutoModelForSequenceClassification):
    torch.manual_seed(0)
    return auto.from_config(CONFIGS[name])


def trained(model):
    return {n for n, p in model.named_parameters() if p.requires_grad}


def block(name, number):
    return BLOCK.get(name, f"{name}.encoder.layer.{{}}.").format(number)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_last_blocks_and_the_head_train_and_nothing_else(name, count):
    model = make(name)
    Last(count)(model)
    prefixes = [*HEADS[name], *(block(name, i) for i in range(3 - count, 3))]
    prefixes += ["model.final_norm."] if name == "modernbert" and count else []
    assert trained(model) == {n for n, _ in model.named_parameters() if n.startswith((*prefixes,))}


@pytest.mark.parametrize("name", CONFIGS)
def test_no_block_equals_the_head_alone(name):
    none, head = make(name), make(name)
    Last(0)(none)
    Head()(head)
    assert trained(none) == trained(head)


@pytest.mark.parametrize("name", CONFIGS)
def test_all_blocks_leave_the_embeddings_frozen_unless_asked(name):
    model, whole = make(name), make(name)
    Last(3)(model)
    Last(3, embeddings=False)(whole)
    frozen = {n for n, _ in model.named_parameters()} - trained(model)
    assert frozen
    assert all("embeddings" in n or "relative" in n or "encoder.LayerNorm" in n for n in frozen)
    assert trained(whole) == {n for n, _ in whole.named_parameters()}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "auto", [AutoModelForSequenceClassification, AutoModelForTokenClassification]
)
def test_frozen_weights_keep_their_bits_in_a_step(name, auto):
    model = make(name, auto)
    Last(1)(model)
    before = {n: p.clone() for n, p in model.named_parameters()}
    ids = torch.randint(5, 300, (2, 8), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(input_ids=ids).logits.square().sum().backward()
    optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= trained(model)
    assert any(n.startswith(block(name, 2)) for n in moved)


def test_names_by_pattern_train():
    model = make("bert")
    Names(["*.layer.1.*", "classifier.bias"])(model)
    found = trained(model)
    assert "classifier.bias" in found
    assert len(found) == 17
    assert any(m is model.bert.encoder.layer[0] for m in frozen_modules(model))


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(ThawError, match=r"'\*\.blok\.\*' fits none of 57 parameters, such as bert"):
        Names(["*.layer.1.*", "*.blok.*"])(make("bert"))
    with pytest.raises(ThawError, match=r"needs freeze\.train"):
        Names([])(make("bert"))


@pytest.mark.parametrize("strategy", [Last(4), Gradual(blocks=4)])
def test_more_blocks_than_there_are_is_refused(strategy):
    with pytest.raises(ThawError, match=r"freeze\.blocks=4: this model has 3 blocks, so 0 to 3"):
        strategy(make("bert"))


def test_shared_blocks_have_no_depth_but_a_head():
    config = transformers.AlbertConfig(**SIZE, embedding_size=16, max_position_embeddings=64)
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(ThawError, match=r"blocks of albert share one set of weights.*freeze=head"):
        Last(1)(model)
    Head()(model)
    assert trained(model) == {"albert.pooler.weight", "albert.pooler.bias",
                              "classifier.weight", "classifier.bias"}  # fmt: skip


def test_an_unknown_architecture_says_what_to_set():
    config = transformers.MobileBertConfig(
        **SIZE, embedding_size=16, true_hidden_size=16, intra_bottleneck_size=16
    )
    with pytest.raises(ThawError, match=r"blocks of mobilebert are; it knows bert,.*Set freeze="):
        Last(1)(AutoModelForSequenceClassification.from_config(config))


def metrics_of(directory):
    return json.loads((directory / "metrics.json").read_text())


@pytest.fixture(scope="session")
def tiny_mlm(tmp_path_factory):
    """A random BERT with a head for masks."""
    return save_tiny("BertForMaskedLM", tiny_config(), tmp_path_factory.mktemp("f") / "tiny")


def changed(before, after, prefix=""):
    return {n for n, w in before.items() if not torch.equal(w, after[f"{prefix}{n}"])}


def test_a_classifiers_last_block_trains_in_a_run(run, tiny_bert):
    directory = run("freeze=last", "trainer.max_epochs=1")
    after = load_file(directory / "model" / "model.safetensors")
    found = changed(load_file(tiny_bert / "model.safetensors"), after, "bert.")
    assert {n.split(".")[0] for n in found} == {"encoder", "pooler"}
    assert all(n.startswith(("encoder.layer.1.", "pooler.")) for n in found)


def test_a_taggers_last_block_trains_in_a_run(run_ner, tiny_bert):
    after = load_file(run_ner("freeze=last", "trainer.max_epochs=1") / "model/model.safetensors")
    before = load_file(tiny_bert / "model.safetensors")
    found = changed({n: w for n, w in before.items() if "pooler" not in n}, after, "bert.")
    assert found
    assert all(n.startswith("encoder.layer.1.") for n in found)


def test_a_masked_models_last_block_trains_in_a_run(run, tiny_mlm):
    directory = run("task=mlm", "freeze=last", f"model.checkpoint={tiny_mlm}",
                    "trainer.max_epochs=1", "trainer.val_check_interval=1.0")  # fmt: skip
    after = load_file(directory / "model" / "model.safetensors")
    found = changed(load_file(tiny_mlm / "model.safetensors"), after)
    assert found
    assert all(n.startswith(("bert.encoder.layer.1.", "cls.")) for n in found)
