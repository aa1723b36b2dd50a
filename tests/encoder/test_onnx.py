"""A finished run as an ONNX graph: the logits of torch, for any batch and length, without torch."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import transformers

import thaw
from helpers.encoders import CONFIGS
from helpers.tiny import REPOSITORY, save_tiny, sentences, tiny_config
from thaw.data.encode.windows import text_windows, windows
from thaw.encoder.onnx import graph as onnx
from thaw.encoder.onnx.tokenizer import ExportedTokenizer
from thaw.errors import ThawError
from thaw.export import main as export
from thaw.predict import main as predict
from thaw.tasks.predictors.sequence import SequencePredictor

SHORT = ["trainer.max_epochs=1", "trainer.max_steps=2", "trainer.val_check_interval=1.0"]


def session(directory):
    import onnxruntime

    return onnxruntime.InferenceSession(directory / "model.onnx")


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def predictions(run, tmp_path, texts):
    (tmp_path / "in.txt").write_text("\n".join(texts))
    predict(
        [
            f"run={run}",
            f"input={tmp_path / 'in.txt'}",
            f"output={tmp_path / 'out.jsonl'}",
            "accelerator=cpu",
        ]
    )
    return read_lines(tmp_path / "out.jsonl")


def encode(run, texts):
    tokenizer = transformers.AutoTokenizer.from_pretrained(run / "model" / "onnx")
    batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="np")
    return {k: v.astype(np.int64) for k, v in batch.items()}


def check_probabilities(run, tmp_path):
    """The graph's probabilities are those of thaw.predict."""
    texts = ["a good film", "bad", "the story of a very dull movie with it and it"]
    graph = session(run / "model" / "onnx")
    [found] = graph.run(["probabilities"], encode(run, texts))
    labels = json.loads(graph.get_modelmeta().custom_metadata_map["labels"])
    for row, got in zip(predictions(run, tmp_path, texts), found, strict=True):
        assert got == pytest.approx([row[f"probability/{name}"] for name in labels], abs=1e-5)


def example():
    """The example of docs/onnx.md."""
    page = (REPOSITORY / "docs" / "onnx.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return code


def test_a_classifier_gives_its_probabilities_without_torch(exported, tmp_path):
    done = exported.directory
    assert exported.difference < 1e-4
    assert "model.onnx: logits differ from torch's by" in exported.said
    check_probabilities(done, tmp_path)
    code = example().replace("<run>", str(done)) + "\nimport sys\nassert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    texts = ["A warm, funny film.", "Two hours of nothing."]
    wanted = [row["prediction"] for row in predictions(done, tmp_path, texts)]
    assert [line.split()[0] for line in shown.stdout.splitlines()] == wanted


def test_setfits_encoder_pooling_and_head_are_one_graph(finished_copy, tmp_path):
    done = finished_copy("task=setfit", "task.shots=8", "task.steps=2", "trainer.max_epochs=1")
    assert export([f"run={done}", "format=onnx"]) < 1e-4
    check_probabilities(done, tmp_path)
    texts = [text for text, _ in sentences(40, seed=3)]
    few = thaw.load(done, engine="onnx")
    whole = thaw.load(done, accelerator="cpu").predict_proba(texts)
    assert few.predict_proba(texts) == pytest.approx(whole, abs=1e-4)
    half = thaw.load(done, accelerator="cpu", precision="bf16-true").predict_proba(texts)
    assert half == pytest.approx(whole, abs=0.05)
    with pytest.raises(ThawError, match="has no embeddings"):
        few.embed(texts)


@pytest.mark.slow
def test_entities_have_logits_for_each_token(run_ner):
    done = run_ner(*SHORT)
    export([f"run={done}"])
    graph = session(done / "model" / "onnx")
    logits, p = graph.run(None, encode(done, ["jan was in oslo", "eva"]))
    assert logits.shape == p.shape
    assert logits.shape[::2] == (2, 5)
    assert p.sum(-1) == pytest.approx(1, abs=1e-5)
    assert json.loads(graph.get_modelmeta().custom_metadata_map["labels"])[0] == "O"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    directory = tmp_path_factory.mktemp("onnx") / "model"
    return save_tiny("BertForSequenceClassification", tiny_config(), directory)


def test_a_graph_that_differs_is_not_written(classifier, monkeypatch, tmp_path):
    class Broken(SequencePredictor):
        @classmethod
        def graph(cls, model, attention):
            graph = super().graph(model, attention)
            if attention == "eager":
                graph.model.classifier.bias.data += 0.1
            return graph

    target = tmp_path / "onnx"
    with pytest.raises(ThawError, match=r"differs from torch's by 0\.1.*Nothing was written"):
        onnx.export_onnx(Broken, classifier, target, 64, 1e-4)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_message_names_it(classifier, monkeypatch, tmp_path):
    monkeypatch.setattr(onnx, "NEEDS", ("onnx", "not_installed_at_all"))
    with pytest.raises(ThawError, match=r"needs not_installed_at_all: pip install -e '\.\[onnx\]'"):
        onnx.export_onnx(SequencePredictor, classifier, tmp_path / "onnx", 64, 1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["format=onnx"], "run must be given"),
        (["run=nowhere"], "run=nowhere: no such directory"),
        (["run=nowhere", "format=gguf"], "format=gguf: expected onnx"),
        (["run=nowhere", "tolerance=small"], "tolerance=small: expected a number"),
        (["run=nowhere", "formt=onnx"], "Did you mean format"),
    ],
)
def test_a_wrong_export_command_is_explained(arguments, message):
    with pytest.raises(ThawError, match=message):
        export(arguments)


@pytest.mark.parametrize("side", ["right", "left"])
def test_an_export_is_tokenized_as_transformers_does_it(classifier, side, tmp_path):
    theirs = transformers.AutoTokenizer.from_pretrained(
        classifier, padding_side=side, truncation_side=side
    )
    theirs(["a film"], padding=True, truncation=True, max_length=8)
    theirs.save_pretrained(tmp_path / "onnx")
    ours = ExportedTokenizer(tmp_path / "onnx")
    texts = [text for text, _ in sentences(20)]
    for columns in ([texts], [texts, texts[::-1]]):
        found, wanted = (t(*columns, truncation=True, max_length=9) for t in (ours, theirs))
        assert found == dict(wanted)
        arrays = ours.pad(found, return_tensors="np")
        for name, array in theirs.pad(wanted, return_tensors="np").items():
            np.testing.assert_array_equal(arrays[name], array)
    assert text_windows(ours, texts, 9, 3) == text_windows(theirs, texts, 9, 3)
    words = [["\u200b", *text.split()] for text in texts]  # the first becomes no token
    assert windows(ours, words, 9, 3) == windows(theirs, words, 9, 3)
    assert ours.model_max_length == theirs.model_max_length
    path = tmp_path / "onnx" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding": None}))
    with pytest.raises(ThawError, match="does not say how texts are cut and padded"):
        ExportedTokenizer(tmp_path / "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_every_architecture_has_the_same_logits_in_onnx_and_torch(kind, tmp_path):
    config = CONFIGS[kind]
    name = type(config).__name__.replace("Config", "ForSequenceClassification")
    model = save_tiny(name, config, tmp_path / "model")
    assert onnx.export_onnx(SequencePredictor, model, tmp_path / "onnx", 48, 1e-4) < 1e-4
    assert (tmp_path / "onnx" / "tokenizer.json").exists()


@pytest.mark.slow
def test_masked_words_have_logits_alone(tmp_path):
    from thaw.tasks.predictors.mlm import MaskedPredictor

    model = save_tiny("BertForMaskedLM", tiny_config(), tmp_path / "model")
    assert onnx.export_onnx(MaskedPredictor, model, tmp_path / "onnx", 48, 1e-4) < 1e-4
    assert [o.name for o in session(tmp_path / "onnx").get_outputs()] == ["logits"]
