"""Precisions and engines of prediction: faster ones, which must say the same."""

import json
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest

import thaw
from helpers.shared import copy_of
from helpers.tiny import save_tiny, sentences, tagged_sentences, tiny_config
from thaw.export import main as export
from thaw.predict import main as predict
from thaw.quantized import Check, label_score

TEXTS = [text for text, _ in sentences(40, seed=3)]


def without_torch(run, texts, path):
    """What a process predicts in which torch and transformers cannot be imported."""
    path.write_text("\n".join(texts))
    script = (
        "import sys\n"
        "sys.modules |= {'torch': None, 'transformers': None}\n"
        "from thaw.predict import main\n"
        f"main(['run={run}', 'input={path}', 'engine=onnx'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def kept(predictor, model, directory, *options):
    """What `export_onnx` returns where it has written the graph before."""
    assert (directory / "model.onnx").is_file()
    return 0.0


@pytest.fixture
def trained(finished):
    return finished("trainer.max_epochs=3", "task.learning_rate=1e-2")


@pytest.fixture
def exported_again(exported, tmp_path, monkeypatch):
    """A copy of an exported run, and the command's arguments to quantize it once more."""
    monkeypatch.setattr("thaw.encoder.onnx.graph.export_onnx", kept)
    run = copy_of(exported.directory, tmp_path / "again")
    (run / "model" / "onnx" / "model_int8.onnx").unlink()
    return run, [f"run={run}", "quantize=int8"]


def test_bfloat16_says_what_float32_says(trained):
    whole = thaw.load(trained, accelerator="cpu").predict_proba(TEXTS)
    half = thaw.load(trained, accelerator="cpu", precision="bf16-true").predict_proba(TEXTS)
    assert np.abs(whole - half).max() > 0, "it is another precision"
    assert half == pytest.approx(whole, abs=0.03)


@pytest.mark.parametrize(
    ("units", "chosen"), [("this CPU has avx512_bf16", "bf16-true"), ("", "32-true")]
)
def test_auto_is_bfloat16_where_there_are_units(
    trained, monkeypatch, capsys, tmp_path, units, chosen
):
    monkeypatch.setattr("thaw.tasks.predictors.torch_model.bf16_units", lambda device: units)
    (tmp_path / "new.txt").write_text("a good film\n")
    words = [f"run={trained}", f"input={tmp_path / 'new.txt'}", "accelerator=cpu", "precision=auto"]
    assert predict(words) == 1
    assert f"precision=auto is {chosen} here" in capsys.readouterr().err


def test_the_exports_answer_as_torch_does(trained, exported, tmp_path):
    with pytest.raises(thaw.ThawError, match=r"there is no .*model\.onnx. Export it"):
        thaw.load(trained, engine="onnx")
    assert "predictions change" in exported.said
    trained = exported.directory
    kept = json.loads((trained / "model" / "onnx" / "int8.json").read_text())
    metrics = json.loads((trained / "metrics.json").read_text())
    assert kept["score"] == pytest.approx(metrics["test/f1"])
    assert kept["texts"] == 22
    torch = thaw.load(trained, accelerator="cpu").predict_proba(TEXTS)
    onnx = thaw.load(trained, engine="onnx").predict_proba(TEXTS)
    assert onnx == pytest.approx(torch, abs=1e-4)
    alone = without_torch(trained, TEXTS, tmp_path / "new.txt")
    assert [row["probability/pos"] for row in alone] == pytest.approx(torch[:, 1], abs=1e-4)
    int8 = thaw.load(trained, engine="int8")
    assert int8.predict_proba(TEXTS) == pytest.approx(torch, abs=0.2)
    assert "int8" in repr(int8)


def test_an_exports_batches_are_bounded_in_texts_and_in_padded_tokens(exported):
    predictor = thaw.load(exported.directory, engine="onnx", batch_size=3).predictor
    found = list(predictor.batches([600, 500, 400, 10, 11, 12, 13, 2000]))
    assert found == [[3, 4, 5], [6, 2], [1], [0], [7]]


def test_a_masked_language_model_is_not_asked_for_an_export_that_would_not_help(tmp_path):
    save_tiny("BertForMaskedLM", tiny_config(), tmp_path / "model")
    with pytest.raises(thaw.ThawError, match="task=mlm predicts with engine=torch"):
        thaw.load(tmp_path / "model", engine="onnx")


def test_a_loss_above_the_tolerance_is_an_error_and_nothing_stays(exported_again):
    run, arguments = exported_again
    with pytest.raises(thaw.ThawError, match=r"F1 falls by .* expected -101 at most") as refused:
        export([*arguments, "tolerance=-101"])
    assert not (run / "model" / "onnx" / "model_int8.onnx").exists()
    [accepted] = re.findall(r"tolerance=[\d.]+(?= accepts the smaller loss)", str(refused.value))
    export([*arguments, accepted])
    assert (run / "model" / "onnx" / "model_int8.onnx").exists()


def test_a_refused_loss_names_the_tolerance_that_accepts_it(exported_again, monkeypatch):
    _, arguments = exported_again
    check = Check(score=0.4319, int8=0.4070, changed=28, texts=479)
    monkeypatch.setattr("thaw.quantized.compared", lambda *_: check)
    with pytest.raises(thaw.ThawError, match=r"falls by 2\.49 .*tolerance=2\.5 accepts"):
        export(arguments)
    export([*arguments, "tolerance=2.5"])


def test_a_large_loss_is_tried_again_with_the_feed_forward_layers_in_blocks(
    exported_again, monkeypatch, capsys
):
    run, arguments = exported_again
    losses = iter([Check(score=0.43, int8=0.41, changed=28, texts=479)])
    compare = thaw.quantized.compared
    monkeypatch.setattr("thaw.quantized.compared", lambda *args: next(losses, compare(*args)))
    torch = thaw.load(run, accelerator="cpu").predict_proba(TEXTS)
    export(arguments)
    assert "with one for all, F1 fell by 2.00 points" in capsys.readouterr().out
    graph = onnx.load(run / "model" / "onnx" / "model_int8.onnx").graph
    blocks = [node for node in graph.node if node.op_type == "MatMulNBits"]
    assert len(blocks) == 2 * 2, "both feed-forward layers of both blocks"
    assert any(node.op_type == "MatMulInteger" for node in graph.node), "the rest is as before"
    kept = json.loads((run / "model" / "onnx" / "int8.json").read_text())
    assert kept["one_scale"] == pytest.approx(2.0)
    assert thaw.load(run, engine="int8").predict_proba(TEXTS) == pytest.approx(torch, abs=0.2)


def test_one_changed_text_of_few_is_no_loss_to_stop_at(exported_again, monkeypatch, capsys):
    _, arguments = exported_again
    few = {"score": 0.9, "texts": 22}
    for check in (Check(**few, int8=0.5, changed=1), Check(**few, int8=0.86, changed=3)):
        monkeypatch.setattr("thaw.quantized.compared", lambda *_, check=check: check)
        export(arguments)
        assert (
            f"on 22 texts of the test; {check.changed} predictions change"
            in capsys.readouterr().out
        )
    monkeypatch.setattr("thaw.quantized.compared", lambda *_: Check(**few, int8=0.85, changed=3))
    with pytest.raises(thaw.ThawError, match=r"expected 4\.55 at most, which is one of 22 texts\."):
        export(arguments)


def test_f1_is_that_of_the_test_where_a_label_has_no_text():
    gold, predicted = ["a", "a", "b", "c"], ["a", "b", "b", "c"]
    assert label_score(predicted, gold, ["a", "b", "c", "absent"]) == pytest.approx(7 / 9)
    assert label_score(gold, gold, ["a", "b", "c", "absent"]) == 1.0


def test_a_run_without_a_test_has_nothing_to_measure_on(exported_again, capsys):
    run, arguments = exported_again
    (run / "predictions.parquet").unlink()
    with pytest.raises(thaw.ThawError, match=r"has no predictions\.parquet to .* tolerance=null"):
        export(arguments)
    export([*arguments, "tolerance=null"])
    assert "model_int8.onnx: what it costs is not measured" in capsys.readouterr().out
    assert not (run / "model" / "onnx" / "int8.json").exists(), "that of an earlier export"
    assert (run / "model" / "onnx" / "model_int8.onnx").is_file()


def test_entities_have_the_engines_too(finished_ner, tmp_path, monkeypatch):
    done = copy_of(finished_ner(), tmp_path / "run")
    with monkeypatch.context() as patch:
        with pytest.raises(thaw.ThawError, match=r"F1 falls by .* expected -101 at most"):
            export([f"run={done}", "quantize=int8", "tolerance=-101"])
        patch.setattr("thaw.encoder.onnx.graph.export_onnx", kept)
        export([f"run={done}", "quantize=int8", "tolerance=50"])
    texts = [" ".join(word for word, _ in pairs) for pairs in tagged_sentences(10, seed=2)]
    torch, onnx = thaw.load(done, accelerator="cpu"), thaw.load(done, engine="onnx")
    spans = [
        [[(e["start"], e["label"]) for e in t] for t in m.entities(texts)] for m in (torch, onnx)
    ]
    assert spans[0] == spans[1]
    alone = [row["entities"] for row in without_torch(done, texts, tmp_path / "new.txt")]
    assert [[(e["start"], e["label"]) for e in found] for found in alone] == spans[0]
    with pytest.raises(thaw.ThawError, match="accelerator=cuda: engine=onnx computes on the CPU"):
        thaw.load(done, engine="onnx", accelerator="cuda")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "16"}, "precision=16: expected one of auto, 32-true, bf16-true"),
        ({"engine": "tensorrt"}, "engine=tensorrt: expected one of torch, onnx, int8"),
        ({"batch_size": 0}, "batch_size=0: expected a whole number from 1"),
        ({"accelerator": "abacus"}, "accelerator=abacus"),
    ],
)
def test_an_option_that_is_none_is_refused(trained, options, message):
    with pytest.raises(thaw.ThawError, match=message):
        thaw.load(trained, **options)
