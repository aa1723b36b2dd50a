"""The modules after the encoder are sentence-transformers' own, read from modules.json."""

import json
import logging
import socket
import warnings
from pathlib import Path

import joblib
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from setfit import SetFitModel
from sklearn.linear_model import LogisticRegression

from helpers.runs import overrides_of
from helpers.sentence_models import load_sentence_model, save_sentence_model
from helpers.tiny import REPOSITORY, runner, sentences
from helpers.warm import FOR_PREDICTIONS, python
from thaw.encoder.sentence_modules import read_sentence_modules, settings_kept
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate
from thaw.export import main as export
from thaw.model import load

pytestmark = pytest.mark.no_figures

TEXTS = [text for text, _ in sentences(12)]
MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
CHAINS = [*MODES, "two modes", "dense", "norm", "everything"]


def chain(name):
    """Modules after an encoder of width 32; "prompt" modules leave the prompt's tokens out."""
    from sentence_transformers.sentence_transformer.modules import (
        Dense,
        Dropout,
        LayerNorm,
        Normalize,
        Pooling,
    )

    torch.manual_seed(1)
    if name in MODES:
        return [Pooling(32, name)]
    return {
        "two modes": lambda: [Pooling(32, ("cls", "mean"))],
        "dense": lambda: [Pooling(32), Dense(32, 12), Normalize()],
        "norm": lambda: [Pooling(32), LayerNorm(32)],
        "prompt": lambda: [Pooling(32, include_prompt=False)],
        "everything": lambda: [
            *(Pooling(32, "max"), Dropout(0.2), Dense(32, 20, activation_function=torch.nn.GELU())),
            *(LayerNorm(20), Dense(20, 20, bias=False, use_residual=True), Normalize()),
        ],
    }[name]()


@pytest.fixture
def go(overrides, tmp_path):
    """Runs task=setfit from a checkpoint."""

    def start(checkpoint, *words, name="run"):
        few = ["task=setfit", "task.shots=8", "task.steps=2", "trainer.max_epochs=1"]
        return runner([*overrides, *few, f"model.checkpoint={checkpoint}"], tmp_path)(
            *words, name=name
        )

    return start


@pytest.mark.parametrize("name", CHAINS)
def test_modules_train_and_the_export_embeds_as_sentence_transformers_does(
    name, go, tiny_bert, tmp_path
):
    start = save_sentence_model(tiny_bert, tmp_path / "start", *chain(name))
    run = go(start)
    theirs = load_sentence_model(run / "model")
    assert [type(m).__name__ for m in theirs][1:] == [type(m).__name__ for m in chain(name)]
    np.testing.assert_allclose(load(run).embed(TEXTS), theirs.encode(TEXTS), atol=1e-5)
    setfit = SetFitModel.from_pretrained(str(run / "model"), device="cpu")
    np.testing.assert_allclose(
        load(run).predict_proba(TEXTS), np.array(setfit.predict_proba(TEXTS)), atol=1e-5
    )
    moved = [
        not torch.equal(tensor, load_file(run / "model" / path.relative_to(start))[key])
        for path in start.glob("*/model.safetensors")
        for key, tensor in load_file(path).items()
    ]
    assert all(moved)
    assert bool(moved) == (name in ("dense", "norm", "everything"))


def test_weights_of_modules_are_listed_and_stay_where_the_encoder_is_frozen(
    go, tiny_bert, tmp_path, caplog
):
    start = save_sentence_model(tiny_bert, tmp_path / "start", *chain("dense"))
    caplog.set_level("INFO")
    go(start, name="trained")
    assert "sentence modules  396" in " ".join(caplog.text.split("\n")).replace("   ", " ")
    frozen = go(start, "freeze=head", name="frozen")
    [path] = start.glob("*/model.safetensors")
    after = load_file(frozen / "model" / path.relative_to(start))
    assert all(torch.equal(tensor, after[key]) for key, tensor in load_file(path).items())


@pytest.mark.parametrize("name", ["mean", "prompt"])
def test_the_default_prompt_is_put_before_each_text(name, go, tiny_bert, tmp_path, caplog):
    prompts = {"prompts": {"about": "a film: "}, "default_prompt_name": "about"}
    start = save_sentence_model(tiny_bert, tmp_path / "start", *chain(name), **prompts)
    caplog.set_level("INFO")
    run = go(start)
    assert "'a film: ' is put before each text" in caplog.text
    theirs = load_sentence_model(run / "model")
    assert theirs.default_prompt_name == "about"
    model = load(run)
    np.testing.assert_allclose(model.embed(TEXTS), theirs.encode(TEXTS), atol=1e-5)
    assert not np.allclose(model.embed(TEXTS), theirs.encode(TEXTS, prompt=""), atol=1e-3)
    tested = pq.read_table(run / "predictions.parquet").to_pylist()
    setfit = SetFitModel.from_pretrained(str(run / "model"), device="cpu")
    assert list(setfit.predict([r["text"] for r in tested])) == [r["prediction"] for r in tested]
    assert evaluate([f"run={run}"])["test/f1"] == pytest.approx(
        json.loads((run / "metrics.json").read_text())["test/f1"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_modules_are_part_of_the_onnx_graph(name, go, tiny_bert, tmp_path):
    prompts = {"prompts": {"about": "a film: "}, "default_prompt_name": "about"}
    start = save_sentence_model(tiny_bert, tmp_path / "start", *chain(name), **prompts)
    run = go(start)
    assert export([f"run={run}"]) < 1e-4
    expected = load(run).predict_proba(TEXTS)
    np.testing.assert_allclose(load(run, engine="onnx").predict_proba(TEXTS), expected, atol=1e-5)


@pytest.mark.slow
def test_a_pooling_without_its_prompt_has_no_onnx_graph_and_the_error_says_so(
    go, tiny_bert, tmp_path
):
    prompts = {"prompts": {"about": "a film: "}, "default_prompt_name": "about"}
    start = save_sentence_model(tiny_bert, tmp_path / "start", *chain("prompt"), **prompts)
    run = go(start)
    with pytest.raises(ThawError, match="torch cannot export this model"):
        export([f"run={run}"])


def test_a_model_of_setfit_is_trained_on_and_its_pickled_head_is_left_out(
    go, tiny_bert, tmp_path, caplog
):
    body = load_sentence_model(save_sentence_model(tiny_bert, tmp_path / "body", *chain("dense")))
    head = LogisticRegression().fit(body.encode(TEXTS), [0, 1] * 6)
    theirs = SetFitModel(body, head, labels=["no", "yes"])
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "model_head.pkl").write_bytes(b"not a pickle at all")
    caplog.set_level("INFO")
    run = go(tmp_path / "theirs", "freeze=head")
    assert "theirs is left out and fitted anew: setfit stores it as a pickle" in caplog.text
    np.testing.assert_allclose(load(run).embed(TEXTS), body.encode(TEXTS), atol=1e-5)
    assert load(run).labels == ["neg", "pos"]


def test_an_export_of_thaw_0_1_predicts_and_evaluates(go, tiny_bert, reviews):
    run = go(tiny_bert)
    before = load(run).predict_proba(TEXTS)
    model = run / "model"
    for name in ("config_sentence_transformers.json", "sentence_bert_config.json"):
        (model / name).unlink()
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (model / "modules.json").write_text(json.dumps(modules))
    switches = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    pooling = {"word_embedding_dimension": 32, **switches}
    (model / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (model / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    np.testing.assert_array_equal(load(run).predict_proba(TEXTS), before)
    metrics = json.loads((run / "metrics.json").read_text())
    assert evaluate([f"run={run}"])["test/f1"] == pytest.approx(metrics["test/f1"])
    go(model, name="again")


@pytest.fixture
def poisoned(tiny_bert, tmp_path):
    """A function that changes an entry of modules.json, and gives the directory."""
    directory = save_sentence_model(tiny_bert, tmp_path / "poisoned", *chain("dense"))
    path = directory / "modules.json"

    def change(number, **values):
        entries = json.loads(path.read_text())
        entries[number] |= values
        path.write_text(json.dumps(entries))
        return directory

    return change


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"type": "evil.Pooling"}, r"has a module evil\.Pooling; task=setfit knows Pooling,"),
        ({"type": "os.system"}, r"has a module os\.system"),
        (
            {"type": "sentence_transformers_evil.Pooling"},
            r"has a module sentence_transformers_evil",
        ),
        ({"type": "sentence_transformers.util.misc.import_from_string"}, r"has a module sentence_"),
        ({"type": "sentence_transformers.models.WordWeights"}, r"task=setfit knows Pooling, Dense"),
        ({"path": "../elsewhere"}, r"cannot be followed.*without '\.\.'"),
        ({"path": "/etc"}, r"cannot be followed.*expected a relative path"),
        ({"path": "nowhere"}, r"cannot be followed"),
    ],
)
def test_a_poisoned_list_of_modules_is_refused(values, message, poisoned):
    with pytest.raises(ThawError, match=message):
        read_sentence_modules(poisoned(1, **values), 32)


def test_code_is_not_imported_from_a_directory_that_names_it(poisoned, tmp_path):
    directory = poisoned(1, type="evil.Pooling")
    (directory / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    with pytest.raises(ThawError, match=r"evil\.Pooling"):
        read_sentence_modules(directory, 32)
    assert not (tmp_path / "executed").exists()


class Payload:
    """What unpickling it does: a file appears."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_weights_of_a_module_are_tensors_or_refused(poisoned, tmp_path):
    directory = poisoned(2)
    weights = load_file(directory / "2_Dense" / "model.safetensors")
    (directory / "2_Dense" / "model.safetensors").unlink()
    torch.save(weights, directory / "2_Dense" / "pytorch_model.bin")
    read = read_sentence_modules(directory, 32).state_dict()
    assert {k.partition("1.")[2]: v.shape for k, v in read.items()} == {
        k: v.shape for k, v in weights.items()
    }
    marker = tmp_path / "executed"
    torch.save(weights | {"more": Payload(marker)}, directory / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(ThawError, match=r"cannot be followed: Weights only load failed"):
        read_sentence_modules(directory, 32)
    joblib.dump(Payload(marker), directory / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(ThawError, match=r"cannot be followed"):
        read_sentence_modules(directory, 32)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"activation_function": "os.system"}, r"the activation is os\.system; expected one of to"),
        ({"in_features": 33}, r"cannot be followed"),
        ({"in_features": 16, "out_features": 12}, r"cannot be followed"),
    ],
)
def test_a_module_that_does_not_fit_is_refused(changed, message, poisoned):
    directory = poisoned(2)
    path = directory / "2_Dense" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ThawError, match=message):
        read_sentence_modules(directory, 32)


def test_the_export_asks_no_network_and_has_setfits_card_with_the_recipe(
    go, tiny_bert, monkeypatch
):
    from huggingface_hub import ModelCard

    def refuse(*args, **options):
        raise AssertionError("the export opened a connection")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    card = ModelCard.load(go(tiny_bert) / "model" / "README.md")
    assert card.data.library_name == "setfit"
    assert {"setfit", "sentence-transformers"} <= set(card.data.tags)
    assert "**Maximum Sequence Length:** 64 tokens" in card.text
    assert "| learning rate | 0.003 |" in card.text


def test_nothing_loads_a_pickled_head():
    source = "".join(p.read_text() for p in (REPOSITORY / "src" / "thaw").rglob("*.py"))
    assert "import joblib" not in source
    calls = [line for line in source.splitlines() if "SetFitModel.from_pretrained(" in line]
    assert [line.strip() for line in calls] == ['SetFitModel.from_pretrained({place}{options})""",']


def test_settings_are_put_back_where_the_import_fails():
    filters, logger = list(warnings.filters), logging.getLogger("setfit")
    before = (logger.level, logger.propagate, logger.handlers[:])

    def failing_import():
        warnings.simplefilter("error")
        logger.setLevel("DEBUG")
        raise ImportError

    with pytest.raises(ImportError), settings_kept():
        failing_import()
    assert (warnings.filters, (logger.level, logger.propagate, logger.handlers)) == (
        filters,
        before,
    )


def test_other_tasks_import_neither_library_and_task_setfit_leaves_no_settings_changed(
    overrides, ner_overrides, tiny_bert, tmp_path
):
    words = {
        task: overrides_of(task, overrides, ner_overrides, tiny_bert)
        for task in ("sequence", "ner", "mlm", "setfit")
    }
    script = (
        "import sys, logging, pathlib, warnings\n"
        f"sys.path.insert(0, {str(REPOSITORY / 'tests')!r})\n"
        "from helpers.tiny import runner\n"
        "from thaw.model import load\n"
        "def found():\n"
        "    logger = logging.getLogger('setfit')\n"
        "    settings = [*warnings.filters], logger.level, logger.propagate, [*logger.handlers]\n"
        "    names = 'setfit', 'sentence_transformers'\n"
        "    return settings, [name for name in names if name in sys.modules]\n"
        f"for task, words in {words!r}.items():\n"
        "    before = found()\n"
        f"    run = runner(words, pathlib.Path({str(tmp_path)!r}))(name=task)\n"
        "    load(run).predict(['a good film'] if task != 'mlm' else ['a [MASK] film'])\n"
        "    print(task, before[1], found()[1])\n"
        "assert before[0] == found()[0], (before, found())\n"
    )
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.endswith("]") and "[" in line]
    assert [line for line in said if line.startswith(tuple(words))] == [
        *(f"{task} [] []" for task in ("sequence", "ner", "mlm")),
        "setfit [] ['setfit', 'sentence_transformers']",
    ]


def test_importing_them_prints_nothing_where_predictions_go(tmp_path):
    code = "from thaw.encoder.sentence_modules import read_sentence_modules as read; read('.', 8)"
    done = python("-c", code, cwd=tmp_path, modules=FOR_PREDICTIONS)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
