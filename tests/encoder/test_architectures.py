"""Encoders whose blocks transformers marks: they train, freeze by depth, resume and export."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, pipeline

from helpers.encoders import EVERY, MULTILINGUAL, SIZE, make
from helpers.runs import curve, metrics_of, result, resumed
from helpers.tiny import save_tiny
from thaw.encoder.blocks import encoder_parts, part_of_each_parameter
from thaw.encoder.freeze import ByName, LastBlocks
from thaw.errors import ThawError

pytestmark = pytest.mark.no_figures

NAMES = [*MULTILINGUAL, "electra", "modernbert"]


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_trains_by_depth_resumes_to_the_bit_and_exports(
    name, run, tmp_path, monkeypatch
):
    checkpoint = save_tiny(type(make(name).base_model).__name__, EVERY[name], tmp_path / name)
    inputs = {"model_input_names": ["input_ids", "attention_mask"]}
    about = json.loads((checkpoint / "tokenizer_config.json").read_text()) | inputs
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(about))
    # Two blocks of three: a frozen one is computed once, and one trains behind another.
    words = [f"model.checkpoint={checkpoint}", "freeze=last", "freeze.blocks=2"]
    words += ["trainer.max_epochs=1"]
    whole = run(*words, name="whole")
    assert metrics_of(whole)["prefix_blocks"] == 1
    before = load_file(checkpoint / "model.safetensors")
    after = load_file(whole / "model" / "model.safetensors")
    prefix = AutoModelForSequenceClassification.from_config(EVERY[name]).base_model_prefix
    moved = {n for n, w in before.items() if not torch.equal(w, after.get(f"{prefix}.{n}", w))}
    blocks = {n for n in before if "layer.0." in n or "layers.0." in n}
    assert blocks
    assert all(f"{prefix}.{n}" in after for n in blocks)
    assert moved, "the last blocks train"
    assert not moved & blocks
    assert not [n for n in moved if "embed" in n]
    [answer] = pipeline("text-classification", str(whole / "model"))(["a good film"])
    assert answer["label"] in ("neg", "pos")
    on = resumed(run, monkeypatch, *words)
    assert (result(on), curve(on)) == (result(whole), curve(whole))


@pytest.mark.parametrize("name", EVERY)
def test_every_parameter_of_an_encoder_has_a_part(name):
    model = make(name)
    assert len(encoder_parts(model).blocks) == 3
    parts = part_of_each_parameter(model)
    assert [
        n
        for n, part in parts.items()
        if part == "embeddings" and "embed" not in n and "relative" not in n
    ] == [n for n in parts if n.startswith("deberta.encoder.LayerNorm")]
    assert all(
        "classifier" in n or "pooler" in n or "dense" in n or n.startswith("head.")
        for n, part in parts.items()
        if part == "head"
    )


def test_the_norm_after_the_blocks_trains_with_the_last_one():
    parts = part_of_each_parameter(make("eurobert"))
    assert parts["model.norm.weight"] == "block 2"


UNMARKED = transformers.SqueezeBertConfig(**SIZE, embedding_size=32)


@pytest.mark.parametrize("freeze", ["none", "head"])
def test_an_encoder_without_known_blocks_trains(freeze, run, tmp_path, caplog):
    checkpoint = save_tiny("SqueezeBertModel", UNMARKED, tmp_path / "squeezebert")
    with caplog.at_level("INFO"):
        directory = run(
            f"freeze={freeze}", f"model.checkpoint={checkpoint}", "trainer.max_epochs=1"
        )
    assert 0 <= metrics_of(directory)["test/f1"] <= 1
    if freeze == "head":
        assert "frozen blocks run in every step: thaw does not know where" in caplog.text


def test_what_an_encoder_without_known_blocks_is_told_works_when_typed():
    model = AutoModelForSequenceClassification.from_config(UNMARKED)
    with pytest.raises(ThawError, match=r"where the blocks of squeezebert are") as error:
        LastBlocks(1)(model)
    typed = str(error.value).split("freeze.train=[")[1].split("]")[0].split(",")
    ByName(typed)(model)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n.split("layers.")[1][0] for n in trained if "layers." in n} == {"2"}
    assert {"classifier.weight", "classifier.bias"} < trained
    assert not [n for n in trained if "embeddings" in n]
