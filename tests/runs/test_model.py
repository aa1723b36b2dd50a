"""Using models from Python."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

import thaw
from helpers.hub import Hub
from helpers.tiny import save_tiny, sentences, tiny_config, write_csv
from helpers.warm import FOR_PREDICTIONS, python
from thaw.evaluate import main as evaluate
from thaw.predict import main as predict

pytestmark = pytest.mark.no_figures


@pytest.fixture
def trained(finished):
    return finished("trainer.max_epochs=1")


def test_texts_of_every_form_get_the_runs_own_predictions_in_their_order(trained, monkeypatch):
    monkeypatch.setattr("thaw.tasks.predictors.base.CHUNK", 2)
    ours = pq.read_table(trained / "predictions.parquet").to_pylist()
    texts = [row["text"] for row in ours]
    model = thaw.load(trained, accelerator="cpu", batch_size=3)
    wanted = [row["prediction"] for row in ours]
    frame = pd.DataFrame({"id": range(len(texts)), "text": texts})
    forms = [
        texts,
        tuple(texts),
        iter(texts),
        np.array(texts),
        frame["text"],
        frame,
        frame.rename(columns={"text": "review"}),
        datasets.Dataset.from_pandas(frame),
        datasets.Dataset.from_pandas(frame)["text"],
        [{"text": text} for text in texts],
        {"text": texts},
    ]
    for form in forms:
        other = {"text": "review"} if "review" in getattr(form, "columns", ()) else {}
        assert model.predict(form, **other) == wanted
    found = model.predict_proba(texts)
    assert found[:, 1] == pytest.approx([row["probability/pos"] for row in ours], abs=1e-5)
    assert model.labels == ["neg", "pos"]


def test_a_model_directory_predicts_as_its_run_does(trained, tmp_path):
    shutil.copytree(trained / "model", tmp_path / "moved")
    moved = thaw.load(tmp_path / "moved", accelerator="cpu")
    texts = [text for text, _ in sentences(20, seed=4)] + ["a very good film " * 100]
    whole = thaw.load(trained, accelerator="cpu").predict_proba(texts)
    assert moved.predict_proba(texts) == pytest.approx(whole, abs=1e-6)
    inside = thaw.load(trained / "model", accelerator="cpu")
    assert inside.predict_proba(texts) == pytest.approx(whole, abs=1e-6)


def test_empty_texts_are_warned_of(trained, caplog):
    model = thaw.load(trained, accelerator="cpu")
    assert len(model.predict(["", "a film", "  "])) == 3
    assert "2 of 3 texts are empty; what is predicted for them says nothing" in caplog.text
    caplog.clear()
    model.predict(["a film"])
    assert not caplog.text


def test_pairs_are_read_as_pairs(run, tmp_path):
    rows = [(a, b, y) for (a, y), (b, _) in zip(sentences(40), sentences(40, seed=8), strict=True)]
    path = write_csv(tmp_path / "pairs.csv", rows, ["one", "two", "label"])
    own = [f"data.train={path}", "data.path=null", "data.text=[one,two]", "data.validation=0.2"]
    model = thaw.load(run(*own, "data.test=null", "trainer.max_epochs=1"), accelerator="cpu")
    pairs = [(a, b) for a, b, _ in rows]
    frame = pd.DataFrame(pairs, columns=["one", "two"])
    assert model.predict_proba(pairs) == pytest.approx(model.predict_proba(frame))
    with pytest.raises(thaw.ThawError, match="text 1, counted from 0, is 'b'; expected a pair"):
        model.predict([("a", "b"), "b"])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "got no texts"),
        (iter(()), "got no texts"),
        ("a film", r"expected a list of texts, such as \['a text'\]"),
        (None, "got None; expected a list of texts"),
        (7, "got 7; expected a list of texts"),
        (["a", None], "text 1, counted from 0, is None; expected a text"),
        (np.array("a"), "expected a list of texts"),
        ({"a", "b"}, "expected a list of texts"),
        ({"text": "a film"}, "column 'text' is 'a film'; expected a list of values"),
        ({"review": ["a film"]}, "no column 'text'; it has 'review'"),
        (datasets.Dataset.from_dict({"text": ["a", None]}), "text 1, .* is None in column 'text'"),
        ((text for text in ("a", None)), "text 1, counted from 0, is None"),
        (["a", 3.5], "text 1, counted from 0, is 3.5; expected a text"),
        (["a", ["b"]], r"text 1, counted from 0, is \['b'\]; expected a text"),
        (pd.Series(["a", None]), "text 1, counted from 0, is None; expected a text"),
        (pd.DataFrame({"text": ["a", np.nan]}), "text 1, .* is None in column 'text'"),
        (pd.DataFrame({"review": ["a"]}), "no column 'text'; it has 'review'"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(model, texts, message):
    for ask in (model.predict, model.predict_proba)[: 1 if isinstance(texts, Iterator) else 2]:
        with pytest.raises(thaw.ThawError, match=message):
            ask(texts)


def test_a_text_without_a_mask_is_named(tmp_path):
    model = thaw.load(save_tiny("BertForMaskedLM", tiny_config(), tmp_path), accelerator="cpu")
    with pytest.raises(thaw.ThawError, match=r"text 1, counted from 0: 'b' has no \[MASK\]"):
        model.predict(["a [MASK]", "b"])


@pytest.fixture(scope="module")
def model(shared_runs):
    return thaw.load(shared_runs["run"].get("trainer.max_epochs=1"), accelerator="cpu")


def test_what_a_task_does_not_have_is_refused(model):
    with pytest.raises(thaw.ThawError, match=r"embeddings are of a run of task=setfit"):
        model.embed(["a"])
    with pytest.raises(thaw.ThawError, match="entities are of task=ner"):
        model.entities(["a"])


# The last of them come with sentence-transformers, whose modules task=setfit needs.
HEAVY = ["lightning", "torchmetrics", "matplotlib", "wandb", "setfit"]
HEAVY += ["rich", "datasets", "pandas", "sklearn", "pydantic", "joblib", "sentence_transformers"]


@pytest.mark.parametrize("task", ["sequence", "ner", "mlm", "setfit"])
def test_a_prediction_loads_nothing_that_only_training_needs(task, tiny_bert, tmp_path):
    """Each takes seconds that one text would wait for."""
    kind = {
        "sequence": "BertForSequenceClassification",
        "ner": "BertForTokenClassification",
        "mlm": "BertForMaskedLM",
        "setfit": "BertModel",
    }
    save_tiny(kind[task], tiny_config(), tmp_path / "model")
    if task == "setfit":
        head = {"weight": torch.zeros(2, 32), "bias": torch.zeros(2)}
        save_file(head, tmp_path / "model" / "head.safetensors")
    (tmp_path / "new.txt").write_text("a good [MASK]\n")
    heavy = [*HEAVY]
    if task == "setfit":
        heavy = HEAVY[:5]
        if find_spec("comet_ml"):  # which transformers' training imports, for setfit, and it that
            heavy.remove("matplotlib")
    script = (
        "import sys\n"
        "from thaw.predict import main\n"
        f"main(['run={tmp_path / 'model'}', 'input={tmp_path / 'new.txt'}', 'accelerator=cpu'])\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
    )
    done = python("-c", script, modules=FOR_PREDICTIONS)  # of which none may load them either
    *_, said, loaded = done.stdout.splitlines() or ["", done.stderr]
    assert loaded == "[]"
    assert '"text": "a good [MASK]"' in said


def test_a_model_of_the_hub_predicts_as_the_directory_does_and_runs_no_code(finished, tmp_path):
    """acme/reviews holds code that its config names, and pickled weights beside the safetensors."""
    trained = finished("trainer.max_epochs=1")
    served = tmp_path / "served" / "models" / "acme" / "reviews"
    shutil.copytree(trained / "model", served)
    config = json.loads((served / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "own.Own", "AutoConfig": "own.Own"}
    (served / "config.json").write_text(json.dumps(config))
    (served / "own.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    (served / "pytorch_model.bin").write_bytes(b"a pickle")
    pickled = served.with_name("pickled")
    shutil.copytree(served, pickled)
    (pickled / "model.safetensors").unlink()
    script = (
        "import thaw\n"
        "model = thaw.load('acme/reviews', accelerator='cpu')\n"
        "print(model.predict_proba(['a good film', 'a bad film']).tolist())\n"
        "try:\n"
        "    thaw.load('acme/pickled')\n"
        "except thaw.ThawError as error:\n"
        "    print(error)\n"
    )
    with Hub(tmp_path / "served") as hub:
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env=hub.environment(tmp_path / "home"),
        )
        asked = "".join(hub.requests)
    assert done.returncode == 0, done.stderr
    found, error = done.stdout.splitlines()[-2:]
    whole = thaw.load(trained, accelerator="cpu").predict_proba(["a good film", "a bad film"])
    assert np.array(json.loads(found)) == pytest.approx(whole, abs=1e-6)
    assert "acme/pickled has no weights as safetensors" in error
    assert not (tmp_path / "executed").exists()
    assert "model.safetensors" in asked
    assert "own.py" not in asked
    assert "pytorch_model.bin" not in asked


def test_an_unfinished_or_damaged_run_is_refused(finished_copy, tmp_path, monkeypatch):
    trained = finished_copy("trainer.max_epochs=1")
    with pytest.raises(thaw.ThawError, match="no run finished there"):
        thaw.Run(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(thaw.ThawError, match="has no model/, so no run finished there"):
        thaw.load(tmp_path / "empty")
    with pytest.raises(thaw.ThawError, match="nowhere: no such directory"):
        thaw.load(tmp_path / "nowhere")
    with pytest.raises(
        thaw.ThawError, match=r"no/where is no directory; as owner/name on the Hub:"
    ):
        thaw.load("no/where")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(thaw.ThawError, match="empty/typo: no such directory"):
        thaw.load("empty/typo")
    (trained / "model" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(thaw.ThawError, match="cannot be loaded"):
        thaw.load(trained)


def test_a_run_that_names_code_is_not_loaded(finished_copy):
    trained = finished_copy("trainer.max_epochs=1")
    path = trained / ".hydra" / "resolved.yaml"
    path.write_text(path.read_text().replace("thaw.tasks.sequence.SequenceC", "os.system.C"))
    with pytest.raises(thaw.ThawError, match="names code to run"):
        thaw.load(trained)


def test_probabilities_of_several_runs_are_averaged(run, finished, tmp_path, capsys):
    (tmp_path / "1").symlink_to(finished("trainer.max_epochs=1"))
    runs = [tmp_path / "1", run("trainer.max_epochs=1", "seed=2", name="2")]
    texts = [text for text, _ in sentences(30, seed=6)]
    each = [thaw.load(r, accelerator="cpu").predict_proba(texts) for r in runs]
    assert np.abs(each[0] - each[1]).max() > 1e-3
    both = thaw.load(runs, accelerator="cpu")
    assert both.predict_proba(texts) == pytest.approx((each[0] + each[1]) / 2, abs=1e-6)
    # A sweep is the directory of its runs; one that did not finish is left out.
    (tmp_path / "multirun.yaml").write_text("hydra: {}")
    (tmp_path / "3" / ".hydra").mkdir(parents=True)
    (tmp_path / "3" / ".hydra" / "overrides.yaml").write_text("[]")
    sweep = thaw.load(tmp_path, accelerator="cpu")
    assert sweep.predict_proba(texts) == pytest.approx(both.predict_proba(texts))
    # The metrics of a sweep are those of what it predicts.
    ours = pq.read_table(runs[0] / "predictions.parquet").to_pylist()
    probability = both.predict_proba([row["text"] for row in ours])[:, 1]
    gold = np.array([row["label"] == "pos" for row in ours])
    metrics = evaluate([f"run={tmp_path}", "trainer.accelerator=cpu"])
    assert metrics["test/accuracy"] == pytest.approx(((probability > 0.5) == gold).mean())
    loss = -np.log(np.where(gold, probability, 1 - probability)).mean()
    assert metrics["test/loss"] == pytest.approx(loss, abs=1e-5)
    path = write_csv(tmp_path / "new.csv", [(text,) for text in texts], ["text"])
    out = tmp_path / "out.csv"
    predict([f"run={tmp_path}", f"input={path}", f"output={out}", "accelerator=cpu"])
    assert pd.read_csv(out)["probability/pos"].to_numpy() == pytest.approx(
        both.predict_proba(texts)[:, 1], abs=1e-6
    )


def test_entities_of_several_runs_come_from_the_mean(finished_ner):
    run = finished_ner()
    text = ["jan was in oslo and eva was in tilburg"]
    one = thaw.load([run], accelerator="cpu")
    same = thaw.load([run, run], accelerator="cpu")
    scores = [[e["score"] for e in m.entities(text)[0]] for m in (one, same)]
    assert scores[0] == pytest.approx(scores[1])
    assert (
        one.entities([["jan", "was", "in", "oslo"]])[0] == one.predict([["jan was in oslo"]][0])[0]
    )
    with pytest.raises(
        thaw.ThawError, match="text 0, counted from 0, is None; expected a text, or"
    ):
        one.entities([None])


def test_a_sweep_of_folds_is_evaluated_on_data_that_none_of_them_saw(run, tmp_path, reviews):
    own = ["data.folds=2", "data.test=null", "data.validation=null", "trainer.max_epochs=1"]
    for fold in (0, 1):
        run(*own, f"data.fold={fold}", name=str(fold))
    (tmp_path / "multirun.yaml").write_text("hydra: {}")
    arguments = [f"run={tmp_path}", "trainer.accelerator=cpu"]
    with pytest.raises(thaw.ThawError, match=r"different data, .* data=files data\.test=<file>"):
        evaluate(arguments)
    arguments += ["data=files", f"data.test={reviews / 'test.csv'}"]
    assert 0 <= evaluate(arguments)["test/f1"] <= 1


def test_runs_whose_labels_differ_are_not_averaged(run, finished, tmp_path):
    path = write_csv(
        tmp_path / "other.csv", [(t, y * 2) for t, y in sentences(40)], ["text", "label"]
    )
    own = [f"data.train={path}", "data.path=null", "data.validation=0.2", "data.test=null"]
    runs = [finished("trainer.max_epochs=1"), run(*own, "trainer.max_epochs=1")]
    with pytest.raises(
        thaw.ThawError, match=r"the models do not agree: .* neg, pos, .* negneg, pos"
    ):
        thaw.load(runs)


def test_setfit_embeds(finished):
    done = finished("task=setfit", "task.shots=8", "task.steps=2", "trainer.max_epochs=1")
    model = thaw.load(done, accelerator="cpu")
    texts = ["a good film", "a bad film", "a good film"]
    found = model.embed(texts)
    assert found.shape == (3, 32)
    assert found[0] == pytest.approx(found[2])
    assert model.predict_proba(texts).sum(1) == pytest.approx([1, 1, 1])
