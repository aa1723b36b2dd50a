"""Tokens on disk: made once, found again, the same as they were."""

import os
import pickle

import numpy as np
import pytest
from datasets import Dataset

from thaw.data.encode import token_cache as encoded
from thaw.data.encode.token_cache import keep, key_of, make_room
from thaw.data.sequence import SequenceData

ROWS = {
    "input_ids": [[1, 2, 3], [4], [5, 6]],
    "labels": [0, 1, 1],
    "word": [[[0, -1], [1]], [[2]], [[]]],
    "shares": [[0.5, 1.0], [0.0, 0.25], [1.0, 1.0]],
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def pieces(about):
    about["longest"] = 3
    for i in range(3):
        yield {name: [values[i]] for name, values in ROWS.items()}


@pytest.mark.parametrize("part", [1, 2, 10])
def test_rows_come_back_as_they_were_however_they_are_cut(cache, monkeypatch, part):
    monkeypatch.setattr(encoded, "PART", part)
    rows, about = keep("key", pieces)
    assert about == {"longest": 3}
    assert (len(rows), rows.column_names) == (3, list(ROWS))
    assert list(rows) == [{k: v[i] for k, v in ROWS.items()} for i in range(3)]
    assert rows[-1] == rows[2]
    assert rows[[2, 0]] == {name: [values[2], values[0]] for name, values in ROWS.items()}
    assert {name: list(rows[name]) for name in ROWS} == ROWS
    assert rows["labels"][1:] == [1, 1]
    assert pickle.loads(pickle.dumps(rows))[1] == rows[1]


def test_rows_are_made_once(cache):
    keep("key", pieces)
    rows, about = keep("key", lambda about: pytest.fail("made again"))
    assert (rows[0]["input_ids"], about) == ([1, 2, 3], {"longest": 3})


def test_a_failure_leaves_nothing_behind(cache):
    def broken(about):
        yield from pieces(about)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep("key", broken)
    assert not [p for p in cache.iterdir() if p.is_dir()]
    assert len(keep("key", pieces)[0]) == 3


def test_a_key_follows_from_every_row_and_option():
    keys = [
        key_of({"a": 1}, ["x", "y"]),
        key_of({"a": 2}, ["x", "y"]),
        key_of({"a": 1}, ["x", "z"]),
        key_of({"a": 1}, ["y", "x"]),
        key_of({"a": 1}, ["xy"]),
        key_of({"a": 1}, ["x"]),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of({"a": 1}, iter(["x", "y"])) == keys[0]
    assert key_of("\ud800")  # half of a surrogate pair, as JSON may hold it


def test_what_was_used_least_recently_goes_first(cache):
    for age, key in enumerate(["new", "mine", "old"]):
        keep(key, pieces)
        os.utime(cache / key, (1000 - age, 1000 - age))
    mapped = Dataset.from_file(str(cache / "old" / "rows.arrow"))
    size = sum(f.stat().st_size for f in (cache / "new").iterdir())
    make_room(cache, size, cache / "mine")
    assert sorted(p.name for p in cache.iterdir() if p.is_dir()) == ["mine"]
    assert mapped[0]["input_ids"] == [1, 2, 3]


def data_of(tiny_bert, reviews, **options):
    data = SequenceData(
        tokenizer=tiny_bert,
        name="files",
        path=str(reviews),
        train="train.csv",
        **{"max_tokens": 8, **options},
    )
    data.read()
    return data


def test_a_second_run_does_not_tokenize(cache, tiny_bert, reviews, monkeypatch, caplog):
    first = data_of(tiny_bert, reviews)
    said = [record.message for record in caplog.records]
    assert any("are longer than data.max_tokens=8" in line for line in said)
    monkeypatch.setattr(SequenceData, "pieces", lambda *args: pytest.fail("tokenized again"))
    caplog.clear()
    again = data_of(tiny_bert, reviews)
    assert list(again.encoded["train"]) == list(first.encoded["train"])
    assert [record.message for record in caplog.records] == said


def test_other_tokens_are_not_taken_for_these(cache, tiny_bert, reviews):
    short = data_of(tiny_bert, reviews)
    long = data_of(tiny_bert, reviews, max_tokens=32)
    assert max(short.encoded["train"]["length"]) == 8
    assert max(long.encoded["train"]["length"]) > 8
    turned = data_of(tiny_bert, reviews, labels=["pos", "neg"])
    labels = np.array(short.encoded["train"]["labels"])
    assert (turned.encoded["train"]["labels"] == 1 - labels).all()


def test_texts_that_are_cut_are_those_of_the_tokenizers_own_truncation(cache, tiny_bert, reviews):
    data = data_of(tiny_bert, reviews)
    texts = [text for (text,) in data.rows["train"].texts]
    expected = data.tokenizer(texts, truncation=True, max_length=8)
    assert list(data.encoded["train"]["input_ids"]) == expected["input_ids"]
    assert list(data.encoded["train"]["attention_mask"]) == expected["attention_mask"]


def truncate(path, by=8):
    path.write_bytes(path.read_bytes()[:-by])


def garble(path, by=0):
    path.write_bytes(b"\xff\x00" * 20)


@pytest.mark.parametrize("name", ["rows.arrow", "about.json"])
@pytest.mark.parametrize("harm", [truncate, garble, lambda path: path.unlink()])
def test_damaged_tokens_are_noticed_and_made_anew(cache, caplog, name, harm):
    keep("key", pieces)
    harm(cache / "key" / name)
    rows, about = keep("key", pieces)
    assert (list(rows["input_ids"]), about) == (ROWS["input_ids"], {"longest": 3})
    assert caplog.text.count("kept tokens are damaged and made anew") == 1
    keep("key", lambda about: pytest.fail("made again"))


def test_damage_that_leaves_the_size_is_what_reading_raises(cache, caplog):
    keep("key", pieces)
    path = cache / "key" / "rows.arrow"
    path.write_bytes(bytes(path.stat().st_size))
    assert len(keep("key", pieces)[0]) == 3
    assert "made anew" in caplog.text


def test_a_file_in_the_place_of_tokens_is_no_tokens(cache):
    cache.mkdir(parents=True)
    (cache / "key").write_text("")
    assert len(keep("key", pieces)[0]) == 3
