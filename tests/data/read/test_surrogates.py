"""Half an emoji in rows."""

import json
import logging

import pytest

from thaw.data.read.surrogates import replace_surrogates

HALF, OTHER = "\ud83d", "\ude00"


def test_every_string_of_a_row_is_mended_at_its_length_and_counted_once(caplog):
    rows = [
        {"text": "an emoji \U0001f600", "tokens": ["a"], "n": 1},
        {"text": f"{HALF} and {OTHER}", "tokens": ["a", f"b{HALF}"], "spans": [[0, 1, HALF]]},
        {"text": "é", "meta": {HALF: [None, 2.5]}},
    ]
    with caplog.at_level(logging.WARNING):
        first, second, third = replace_surrogates(iter(rows), "x.jsonl")
    assert first is rows[0]
    assert second["text"] == "\ufffd and \ufffd"
    assert second["tokens"] == ["a", "b\ufffd"]
    assert second["spans"] == [[0, 1, "\ufffd"]]
    assert third["meta"] == {"\ufffd": [None, 2.5]}
    [record] = caplog.records
    assert "2 in 'text', 1 in 'tokens', 1 in 'spans', 1 in 'meta'; the first in row 2" in (
        record.getMessage()
    )


def test_rows_without_any_are_not_spoken_of(caplog):
    assert list(replace_surrogates([{"text": "日本"}], "x")) == [{"text": "日本"}]
    assert not caplog.records


@pytest.mark.parametrize("task", ["sequence", "ner", "mlm", "setfit"])
def test_a_run_trains_on_texts_labels_and_tokens_with_half_an_emoji(
    run, run_ner, tmp_path, caplog, task
):
    good = [f"a good film {i} {HALF}" for i in "abcdefgh"]
    bad = [f"a bad film {i}" for i in "abcdefgh"]
    if task == "ner":
        rows = [
            {"tokens": ["maarten", HALF, text[-3]], "tags": [f"B-PER{OTHER}", "O", "O"]}
            for text in good + bad
        ]
    else:
        rows = [{"text": t, "label": f"pos{OTHER}"} for t in good]
        rows += [{"text": t, "label": "neg"} for t in bad]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"data.train={path}", "data.path=null", "data.test=null", "data.validation=0.25"]
    own = {
        "sequence": [],
        "ner": ["data.format=table"],
        "mlm": ["task=mlm", "task.probes=[]"],
        "setfit": ["task=setfit", "task.shots=2", "task.steps=1"],
    }[task]
    go = run_ner if task == "ner" else run
    directory = go(*words, *own, "trainer.max_epochs=1")
    assert (directory / "model" / "model.safetensors").exists()
    assert "are replaced by U+FFFD" in caplog.text
