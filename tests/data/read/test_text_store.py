"""Many texts are in a file and read back as they were."""

import os

import pytest

from thaw.data.read import text_store as spooling
from thaw.data.read import texts as table
from thaw.data.read.row_values import Columns
from thaw.data.read.sampling.splits import cut
from thaw.data.read.text_store import Picked, Spool, hashes
from thaw.data.read.texts import read_texts
from thaw.errors import ThawError

PAIRS = [("a b", "c"), ("", "é\u2028"), ("\ud800", "x" * 1000), ("a b", "c"), ("z", "")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THAW_CACHE", str(tmp_path))
    return tmp_path


def test_texts_and_pairs_come_back_in_any_order():
    spool = Spool(PAIRS[:2])
    for pair in PAIRS[2:]:
        spool.append(pair)
    assert (len(spool), list(spool)) == (5, PAIRS)
    assert spool[-1] == PAIRS[-1]
    picked = Picked(spool, [4, 0])
    assert (len(picked), list(picked)) == (2, [PAIRS[4], PAIRS[0]])
    with pytest.raises(IndexError):
        spool[5]


def test_its_file_has_no_name(cache):
    spool = Spool(PAIRS)
    assert len(spool) == 5
    assert os.listdir(cache) == []


def test_a_child_reads_what_its_parent_reads():
    spool = Spool([(f"text {i}",) for i in range(100)])
    child = os.fork()
    if child == 0:
        os._exit(0 if [t for (t,) in spool] == [f"text {i}" for i in range(100)] else 1)
    assert [t for (t,) in spool] == [f"text {i}" for i in range(100)]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_same_text_has_the_same_number():
    numbers = hashes(PAIRS)
    assert numbers[0] == numbers[3]
    assert len(set(numbers.tolist())) == 4


@pytest.mark.parametrize("group", [None, "movie"])
def test_a_large_data_set_is_read_and_cut_as_a_small_one(group, monkeypatch):
    rows = [
        {"text": f"text {i % 90}", "label": "ab"[i % 2], "movie": f"m{i % 30}"} for i in range(100)
    ]
    splits = []
    for few in (1000, 10):
        monkeypatch.setattr(table, "FEW", few)
        monkeypatch.setattr(spooling, "FEW", few)
        texts = read_texts(rows, Columns(["text"], "label", group=group), "here")
        assert isinstance(texts.texts, Spool) == (few == 10)
        found = cut(texts, {"validation": 0.2, "test": 0.2}, seed=0)
        splits.append({k: (list(v.texts), v.labels, v.groups) for k, v in found.items()})
    assert splits[0] == splits[1]


def test_texts_are_the_same_after_their_pages_were_given_back(monkeypatch):
    monkeypatch.setattr(spooling, "READS", 3)
    monkeypatch.setattr(spooling, "BATCH", 2)
    spool = Spool(PAIRS)
    assert [spool[i] for i in (4, 0, 3, 1, 2, 4, 0)] == [PAIRS[i] for i in (4, 0, 3, 1, 2, 4, 0)]


def test_no_text_can_be_added_once_one_was_read():
    spool = Spool(PAIRS)
    assert spool[0] == PAIRS[0]
    with pytest.raises(ValueError, match="cannot be added once one was read"):
        spool.append(PAIRS[1])


def test_a_disk_that_is_full_is_explained(monkeypatch):
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115  (closed with the spool)
    monkeypatch.setattr(spooling.tempfile, "TemporaryFile", lambda dir: full)
    with pytest.raises(ThawError, match=r"no room left in .*THAW_CACHE=<directory>"):
        list(Spool(PAIRS))
