"""A run goes on with the data that it began with, or says what changed."""

import signal

import pytest
import torch

from helpers.tiny import sentences, tagged_sentences, write_columns, write_csv
from thaw.data.contents import require_same_contents
from thaw.errors import ThawError
from thaw.training.callbacks.resumable_checkpoint import Checkpoint

pytestmark = pytest.mark.no_figures

HEADER = ["text", "label"]


@pytest.fixture
def stopped(monkeypatch):
    """Runs until SIGINT comes at the third batch."""

    def go(run, *overrides):
        with monkeypatch.context() as patch:
            count = iter(range(1000))

            def come(callback, trainer, *args):
                if trainer.state.fn == "fit" and next(count) == 2:
                    signal.raise_signal(signal.SIGINT)

            patch.setattr(Checkpoint, "on_train_batch_end", come, raising=False)
            with pytest.raises(SystemExit):
                run(*overrides, name="on")
        return f"resume={run.directory('on')}"

    return go


@pytest.fixture
def own(tmp_path):
    """A file of 40 texts, and the overrides that read it."""
    path = write_csv(tmp_path / "own.csv", sentences(40, seed=3), HEADER)
    overrides = [f"data.train={path}", "data.path=null", "data.validation=0.25", "data.test=null"]
    return path, overrides


def change(rows, how):
    (text, label), *rest = rows
    return {
        "rows added": [*rows, *sentences(20, seed=8)],
        "a label mended": [(text, "pos" if label == "neg" else "neg"), *rest],
        "a text mended": [(f"{text} .", label), *rest],
        "a class added": [*rows, *((f"so so {i}", "meh") for i in range(8))],
    }[how]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("rows added", r"train had 30 rows, and now has 45 rows; validation had 10 rows, and now"),
        ("a label mended", r"rows and has as many, of other content .*\(hash \w{8}, now \w{8}\)"),
        ("a text mended", r"rows and has as many, of other content .*\(hash \w{8}, now \w{8}\)"),
        ("a class added", r"labels were 'neg', 'pos', and now are 'meh', 'neg', 'pos'"),
    ],
)
def test_a_run_does_not_resume_with_other_data(run, stopped, own, how, message):
    path, overrides = own
    resume = stopped(run, *overrides)
    write_csv(path, change(sentences(40, seed=3), how), HEADER)
    with pytest.raises(ThawError, match=message) as error:
        run(*overrides, resume, name="on")
    assert f"make data.train={path} what it was again" in str(error.value)
    write_csv(path, sentences(40, seed=3), HEADER)
    assert (run(*overrides, resume, name="on") / "metrics.json").exists()


def test_entities_and_streams_are_compared_too(run, run_ner, stopped, tmp_path):
    path = write_columns(tmp_path / "own.conll", tagged_sentences(40, seed=3))
    overrides = [f"data.train={path}", "data.path=null", "data.validation=0.25", "data.test=null"]
    resume = stopped(run_ner, *overrides)
    path.write_text(path.read_text().replace("B-PER", "B-LOC", 1))
    with pytest.raises(ThawError, match="of other content"):
        run_ner(*overrides, resume, name="on")


def test_a_stream_is_identified_by_its_file(run, stopped, tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"{text}\n" for text, _ in sentences(80, seed=3)))
    overrides = [
        *(f"data.train={path}", "data.path=null", "data.validation=null", "data.test=null"),
        *("task=mlm", "task.probes=[]", "data.streaming=true", "trainer.max_steps=8"),
        "trainer.val_check_interval=4",
    ]
    resume = stopped(run, *overrides)
    size = path.stat().st_size
    with open(path, "a") as file:
        file.write("one more\n")
    with pytest.raises(ThawError, match=rf"train had {size:,} bytes, and now has {size + 9:,}"):
        run(*overrides, resume, name="on")


def test_a_checkpoint_of_an_earlier_thaw_resumes_and_says_that_data_was_not_compared(
    run, stopped, own, caplog
):
    _, overrides = own
    resume = stopped(run, *overrides)
    for path in (run.directory("on") / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["SequenceData"].pop("contents")
        torch.save(checkpoint, path)
    assert (run(*overrides, resume, name="on") / "metrics.json").exists()
    assert "of an earlier thaw and does not say what its data was" in caplog.text


def test_a_missing_split_is_named():
    began = {"labels": [], "splits": {"train": {"rows": 5, "hash": "a"}, "test": {"rows": 1}}}
    now = {"labels": [], "splits": {"train": {"rows": 5, "hash": "a"}}}
    require_same_contents(now, now, {})
    with pytest.raises(ThawError, match="test had 1 rows, and now has nothing"):
        require_same_contents(began, now, {"train": "a.csv"})
