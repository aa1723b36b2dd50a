"""Much of everything: long texts, many labels, many runs."""

import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from helpers.tiny import REPOSITORY, write_csv
from thaw.data.encode import blocks as packing
from thaw.data.ner import TokenData
from thaw.data.read.entities.sentences import read_sentences
from thaw.data.read.entities.spans import words_of
from thaw.data.read.texts import Texts
from thaw.data.sequence import SequenceData
from thaw.data.write import RowWriter
from thaw.report.figures import confusion_figure


@pytest.fixture
def tokenized(monkeypatch):
    """How many characters each call of a tokenizer gets."""
    from transformers import PreTrainedTokenizerFast

    monkeypatch.setattr(packing, "CHARACTERS", 1000)
    sizes = []
    call = PreTrainedTokenizerFast.__call__

    def counting(self, text, *args, **options):
        sizes.append(sum(len(t) if isinstance(t, str) else sum(map(len, t)) for t in text))
        return call(self, text, *args, **options)

    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", counting)
    return sizes


def test_long_texts_are_tokenized_a_few_at_a_time(tiny_bert, tokenized):
    data = SequenceData(name="x", tokenizer=tiny_bert, train="x", max_tokens=64)
    data.labels = ["a", "b"]
    texts = [("x " * 200,) for _ in range(9)] + [("film",)]
    labels = ["a", "b"] * 5
    batches = [rows for rows, _ in data.tokenize(Texts(texts, labels), "train")]
    assert max(tokenized) <= 1400
    assert [row for batch in batches for row in batch["row"]] == list(range(10))
    assert [label for batch in batches for label in batch["labels"]] == [0, 1] * 5


def test_long_sentences_are_tokenized_a_few_at_a_time(tiny_bert, tokenized):
    data = TokenData(name="x", tokenizer=tiny_bert, train="x", max_tokens=64)
    data.labels = ["O", "B-PER", "I-PER"]
    rows = [{"tokens": ["x" * 10] * 30, "tags": ["O"] * 30} for _ in range(6)]
    names = {n: n for n in ("tokens", "tags", "text", "spans")}
    sentences = read_sentences(rows, names, None, "here")
    batches = [rows for rows, _ in data.tokenize(sentences, "test")]
    assert max(tokenized) <= 1400
    assert [row for batch in batches for row in batch["row"]] == list(range(6))


@pytest.mark.parametrize("text", ["x", ".", "U.", "a-", "@", "é\u0301", "电", "👨\u200d"])
def test_words_of_a_long_text_take_time_in_proportion(text):
    def seconds(count):
        began = time.process_time()
        for fine in (True, False):
            words_of(text * count, fine)
        return time.process_time() - began

    short = min(seconds(10_000) for _ in range(3))
    assert seconds(80_000) < 40 * short + 0.05  # 8 times, 64 if it were quadratic


def test_many_columns_are_written_in_time_in_proportion(tmp_path):
    def seconds(columns, rows):
        row = {f"probability/label {i}": 0.5 for i in range(columns)}
        began = time.process_time()
        with RowWriter(tmp_path / "out.parquet") as writer:
            for _ in range(rows):
                writer.write(row)
        return time.process_time() - began

    seconds(10, 10)  # imports
    assert seconds(3000, 60) < 5 * seconds(300, 600) + 0.2  # as many cells
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 600


@pytest.mark.slow
def test_a_run_with_a_thousand_labels_ends_well(run, tmp_path):
    rows = [(f"film {i} story {i % 7}", f"label {i % 1000:04}") for i in range(3000)]
    write_csv(tmp_path / "train.csv", rows[:2000], ["text", "label"])
    write_csv(tmp_path / "test.csv", rows[2000:], ["text", "label"])
    directory = run(
        f"data.path={tmp_path}",
        "data.validation=null",
        "trainer.max_epochs=1",
    )
    assert len(pq.read_schema(directory / "predictions.parquet").names) == 1003
    assert (directory / "confusion.png").stat().st_size > 10_000


def test_a_confusion_of_a_thousand_labels_is_drawn():
    drawn = confusion_figure(np.eye(1000, dtype=int), [f"label {i}" for i in range(1000)])
    assert drawn.png.startswith(b"\x89PNG")


@pytest.mark.slow
def test_runs_one_after_the_other_leave_memory_and_files_as_they_were():
    done = subprocess.run(
        [
            sys.executable,
            "tests/long/soak.py",
            "--minutes",
            "3",
            "--kinds",
            "sequence",
            "ner",
            "mlm",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
