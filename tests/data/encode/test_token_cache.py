"""Tokens on disk: made once, found again, the same as they were."""

import pickle

import numpy as np
import pytest

from thaw.data.encode import token_cache
from thaw.data.encode.token_cache import cache_key, cached_rows
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


def batches():
    for i in range(3):
        yield {name: [values[i]] for name, values in ROWS.items()}, {"longest": i + 1}


def test_rows_come_back_as_they_were(cache):
    rows, statistics = cached_rows("key", batches)
    assert statistics == {"longest": 3}
    assert (len(rows), rows.column_names) == (3, list(ROWS))
    assert list(rows) == [{k: v[i] for k, v in ROWS.items()} for i in range(3)]
    assert rows[-1] == rows[2]
    assert rows[[2, 0]] == {name: [values[2], values[0]] for name, values in ROWS.items()}
    assert {name: list(rows[name]) for name in ROWS} == ROWS
    assert rows["labels"][1:] == [1, 1]
    assert pickle.loads(pickle.dumps(rows))[1] == rows[1]


def test_rows_are_made_once(cache):
    cached_rows("key", batches)
    rows, statistics = cached_rows("key", lambda: pytest.fail("made again"))
    assert (rows[0]["input_ids"], statistics) == ([1, 2, 3], {"longest": 3})


def test_a_failure_leaves_nothing_behind(cache):
    def broken():
        yield from batches()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_rows("key", broken)
    assert not [p for p in cache.iterdir() if p.is_dir()]
    assert len(cached_rows("key", batches)[0]) == 3


def test_a_key_follows_from_every_row_and_option():
    keys = [
        cache_key({"a": 1}, ["x", "y"]),
        cache_key({"a": 2}, ["x", "y"]),
        cache_key({"a": 1}, ["x", "z"]),
        cache_key({"a": 1}, ["y", "x"]),
        cache_key({"a": 1}, ["xy"]),
        cache_key({"a": 1}, ["x"]),
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key({"a": 1}, iter(["x", "y"])) == keys[0]
    assert cache_key("\ud800")  # half of a surrogate pair, as JSON may hold it


def test_rows_stay_readable_when_they_are_deleted_for_others(cache, monkeypatch):
    first, _ = cached_rows("first", batches)
    monkeypatch.setattr(token_cache, "BUDGET_GIB", 0)
    cached_rows("second", batches)
    assert [p.name for p in cache.iterdir() if p.is_dir()] == ["second"]
    assert first[0]["input_ids"] == [1, 2, 3]


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
    monkeypatch.setattr(SequenceData, "tokenize", lambda *args: pytest.fail("tokenized again"))
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
    cached_rows("key", batches)
    harm(cache / "key" / name)
    rows, statistics = cached_rows("key", batches)
    assert (list(rows["input_ids"]), statistics) == (ROWS["input_ids"], {"longest": 3})
    assert caplog.text.count("is damaged and made again") == 1
    cached_rows("key", lambda: pytest.fail("made again"))


def test_damage_that_leaves_the_size_is_what_reading_raises(cache, caplog):
    cached_rows("key", batches)
    path = cache / "key" / "rows.arrow"
    path.write_bytes(bytes(path.stat().st_size))
    assert len(cached_rows("key", batches)[0]) == 3
    assert "made again" in caplog.text


def test_a_file_in_the_place_of_tokens_is_no_tokens(cache):
    cache.mkdir(parents=True)
    (cache / "key").write_text("")
    assert len(cached_rows("key", batches)[0]) == 3
