"""Training from Python."""

import json
import logging
import re
import signal
import subprocess
import sys

import datasets
import pandas as pd
import pytest

import thaw
from helpers.tiny import REPOSITORY, save_tiny, sentences, tagged_sentences, tiny_config
from helpers.warm import python
from thaw.cli.kept_config import run_config
from thaw.evaluate import main as evaluate
from thaw.export import main as export
from thaw.predict import main as predict

pytestmark = pytest.mark.no_figures


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def options(tiny_bert):
    return {
        "model": {"checkpoint": tiny_bert},
        "data": {"max_tokens": 64, "batch_size": 8},
        "task": {"learning_rate": 3e-3},
        "trainer": {"accelerator": "cpu", "precision": "32-true", "max_epochs": 1},
        "logger": "csv",
    }


def rows(count=60, seed=0):
    return [{"text": text, "label": label} for text, label in sentences(count, seed)]


FORMS = {
    "frame": pd.DataFrame,
    "dataset": datasets.Dataset.from_list,
    "rows": list,
    "columns": lambda found: {k: [row[k] for row in found] for k in found[0]},
    "lists": lambda found: ([r["text"] for r in found], [r["label"] for r in found]),
}


def test_data_of_every_form_is_the_same_data(place, options):
    hashes = set()
    for form in FORMS.values():
        run = thaw.fit(train=form(rows()), test=form(rows(20, seed=1)), **options)
        about = json.loads((run.directory / "data.json").read_text())
        hashes.add(about["splits"]["train"]["hash"])
        assert about["splits"]["test"]["texts"] == 20
        assert 0 <= run.metrics["test/f1"] <= 1
        assert run.report.is_file()
    assert len(hashes) == 1
    assert len(list((place / "outputs").glob("*/*"))) == len(FORMS), "several in one process"


def test_what_was_trained_on_is_described_and_not_kept(place, options):
    run = thaw.fit(train=pd.DataFrame(rows()), **options)
    assert list((place / "cache" / "tables").iterdir()) == []
    about = json.loads((run.directory / "data.json").read_text())["splits"]["train"]
    assert (about["texts"], len(about["hash"])) == (54, 32)


def test_every_command_takes_the_run(place, options, monkeypatch):
    found = pd.DataFrame(rows(30, seed=2))
    run = thaw.fit(train=pd.DataFrame(rows()), test=found, keep_data=True, **options)
    found.to_csv("new.csv", index=False)
    assert predict([f"run={run.directory}", "input=new.csv", "output=out.csv"]) == 30
    metrics = evaluate([f"run={run.directory}", "data=files", "data.test=new.csv"])
    assert metrics["test/f1"] == pytest.approx(run.metrics["test/f1"])
    assert evaluate([f"run={run.directory}"]) == metrics, "the data is kept where it was asked for"
    graphs = []
    monkeypatch.setattr("thaw.encoder.onnx.graph.export_onnx", lambda *a: graphs.append(a[1]) or 0)
    export([f"run={run.directory}"])
    assert graphs == [run.directory / "model"]
    assert thaw.Run(run.directory).metrics == run.metrics
    # A finished run that is resumed is done.
    assert thaw.fit(resume=run.directory, train=pd.DataFrame(rows()), test=found).metrics


def test_a_stopped_run_goes_on_with_the_same_data_and_with_no_other(place, options):
    data = pd.DataFrame(rows())
    run = thaw.fit(train=data, **options)
    (run.directory / "metrics.json").unlink()
    other = pd.DataFrame(rows(60, seed=9))
    with pytest.raises(thaw.ThawError, match=r"a run goes on as it began, and data\.train"):
        thaw.fit(resume=run.directory, train=other)
    again = thaw.fit(resume=run.directory, train=data)
    assert again.directory == run.directory
    assert again.metrics["steps"] == run.metrics["steps"]


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, thaw.ThawError), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_is_an_exception_that_says_how_to_go_on(place, options, number, error):
    data = pd.DataFrame(rows())
    word = f"+callbacks.signal={{_target_: helpers.watch.Signal, number: {int(number)}, step: 3}}"
    before = signal.getsignal(number)
    with pytest.raises(
        error, match=r"go on with thaw\.fit\(resume='.*'\) and the same data"
    ) as said:
        thaw.fit(word, train=data, **options)
    assert signal.getsignal(number) is before
    directory = re.search("resume='(.*)'", str(said.value))[1]
    with pytest.raises(thaw.ThawError, match="no run finished there"):
        thaw.Run(directory)
    run = thaw.fit(word, resume=directory, train=data)  # it names code, so it is said again
    assert str(run.directory) == directory
    assert run.metrics["steps"] == thaw.fit(train=data, **options).metrics["steps"]


def test_entities_train_on_spans_of_a_frame(place, options):
    found = []
    for pairs in tagged_sentences(60):
        words, tags = zip(*pairs, strict=True)
        found.append({"tokens": list(words), "tags": list(tags)})
    run = thaw.fit("task=ner", train=pd.DataFrame(found), **options)
    assert "val/f1" in run.metrics
    [entities] = run.load(accelerator="cpu").entities(["maarten was in oslo"])
    assert all(e["text"] == "maarten was in oslo"[e["start"] : e["end"]] for e in entities)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "nre"}, "Did you mean ner"),
        ({"trainer": {"max_epoch": 3}}, "Did you mean trainer.max_epochs"),
        ({"train": 7}, "there is no option train=|expected a pandas DataFrame|data.train"),
        ({"train": [7]}, "row 0, counted from 0, is 7; expected a pandas DataFrame"),
        ({"train": (["a"], ["x", "y"])}, "'text' has 1, 'label' has 2"),
        ({"train": []}, "train has no rows"),
        ({"train": pd.DataFrame({"x": ["a"], "label": ["b"]})}, "train .from Python. has no col"),
        ({"seed": object()}, "is no value of an option"),
        ({"data": {"max_tokens": 1000}, "train": rows()}, "this model takes 3 to 64"),
    ],
)
def test_a_mistake_is_an_exception(place, options, given, message):
    with pytest.raises(thaw.ThawError, match=message):
        thaw.fit(**{"train": rows(), **options, **given})


def test_data_without_a_name_is_answered_with_the_name():
    with pytest.raises(
        thaw.ThawError, match=r"got a DataFrame without a name.*fit\(train=\.\.\.\)"
    ):
        thaw.fit(pd.DataFrame(rows()))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=1,2", r"for word in \['seed=1', 'seed=2'\]\]`"),
        ("seed=range(1,3)", r"for word in \['seed=1', 'seed=2'\]\]`"),
        (
            "task.warmup_ratio=interval(0,0.2)",
            r"train\.py hparams_search=optuna 'task\.warmup_ratio",
        ),
        ("experiment=few_shot_curve", r"On the command line: `python train\.py experiment=few"),
    ],
)
def test_several_runs_are_answered_with_what_to_write_in_python(place, word, message):
    with pytest.raises(thaw.ThawError, match=message) as said:
        thaw.fit(word)
    assert "--multirun" not in str(said.value)


def test_the_programs_hydra_and_its_logging_stay_as_they_were(place, options):
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig

    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("thaw").level
    with initialize_config_dir(str(REPOSITORY / "conf" / "freeze"), version_base="1.3"):
        thaw.fit(train=rows(), **options)
        assert compose("last").blocks >= 0
    assert HydraConfig.instance().cfg is None
    assert (root.handlers[:], root.level, logging.getLogger("thaw").level) == before


def test_several_devices_are_processes_of_their_own(place, tmp_path):
    checkpoint = save_tiny("BertModel", tiny_config(), tmp_path / "bert")
    script = f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "tests")!r})
import thaw
from helpers.tiny import sentences
rows = [{{"text": t, "label": y}} for t, y in sentences(60)]
run = thaw.fit("trainer.devices=2", "trainer.accelerator=cpu", "data.max_tokens=64",
               model={{"checkpoint": {str(checkpoint)!r}}}, train=rows, logger="csv")
print("F1", run.metrics["val/f1"])
"""
    done = python("-c", script, cwd=place)
    assert "F1 " in done.stdout, done.stderr
    assert "2 cpu" in next((tmp_path / "outputs").glob("*/*/report.html")).read_text()


def test_importing_thaw_is_light():
    script = (
        "import sys, thaw\n"
        "print(sorted({'torch', 'transformers', 'lightning', 'hydra', 'numpy', 'pandas'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_paths_and_options_are_what_the_command_line_would_have(place, options):
    run = thaw.fit(train=rows(), seed=7, **options)
    words = run_config(run.directory).data
    assert words.max_tokens == 64
    assert "seed=7" in (run.directory / ".hydra" / "overrides.yaml").read_text()
