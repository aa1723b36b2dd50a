"""Files to rows, and rows to files."""

import bz2
import errno
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.data.read import RowWriter, read_rows
from thaw.errors import ThawError


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_values_of_csv_stay_as_written(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nNA,null\n,None\n007,1.0\n")
    assert list(read_rows(path)) == [
        {"text": "NA", "label": "null"},
        {"text": "", "label": "None"},
        {"text": "007", "label": "1.0"},
    ]


def test_a_quoted_field_holds_delimiters_quotes_and_line_ends(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\n"a, ""b""\nc",x\n')
    assert list(read_rows(path)) == [{"text": 'a, "b"\nc', "label": "x"}]


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = write(tmp_path / "a.csv", b"\xef\xbb\xbftext,label\r\na,x\r\n")
    assert list(read_rows(path)) == [{"text": "a", "label": "x"}]


def test_tabs_separate_tsv(tmp_path):
    path = write(tmp_path / "a.tsv", "text\tlabel\na, b\tx\n")
    assert list(read_rows(path)) == [{"text": "a, b", "label": "x"}]


def test_jsonl_keeps_numbers_lists_and_nulls(tmp_path):
    row = {"text": "a", "label": ["x", "y"], "n": 3, "none": None}
    path = write(tmp_path / "a.jsonl", json.dumps(row) + "\n\n")
    assert list(read_rows(path)) == [row]


def test_parquet_keeps_numbers_lists_and_nulls(tmp_path):
    rows = [{"text": "a", "label": [1, 2]}, {"text": None, "label": []}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet")) == rows


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_compressed_files_are_read(tmp_path, suffix, compress):
    path = write(tmp_path / f"a.csv{suffix}", compress(b"text,label\na,x\n"))
    assert list(read_rows(path)) == [{"text": "a", "label": "x"}]


def test_a_missing_file_names_its_neighbours(tmp_path):
    write(tmp_path / "reviews.csv", "a\n")
    with pytest.raises(ThawError, match=r"no such file. Did you mean reviews\.csv"):
        list(read_rows(tmp_path / "review.csv"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\n", "is empty"),
        ("a.xlsx", "x", r"unknown format; thaw reads \.csv, \.tsv"),
        ("a.csv", "text,label\na,x\nb\n", "line 3: 1 fields, the header has 2"),
        ("a.csv", "text,label\na,x,y\n", "line 2: 3 fields, the header has 2"),
        ("a.csv", "text,text\na,x\n", "has 'text' twice"),
        ("a.csv", 'text,label\n"a,x\n', "line 2: unexpected end of data"),
        ("a.csv", "text\na\0b\n", "line 2: a NUL byte"),
        ("a.csv", b"text,label\ncaf\xe9,x\n", r"not utf-8: byte 14 \(0xe9\) in line 2.*data\.enc"),
        ("a.jsonl", '{"a": 1}\n{a}\n', "line 2: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: expected an object"),
        ("a.parquet", "PAR1 no", "cannot be read as Parquet"),
        ("a.csv.gz", "no gzip", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_explained_with_its_place(tmp_path, name, content, message):
    with pytest.raises(ThawError, match=message):
        list(read_rows(write(tmp_path / name, content)))


def test_another_encoding_is_read_when_named(tmp_path):
    path = write(tmp_path / "a.csv", "text\ncafé\n".encode("latin-1"))
    assert list(read_rows(path, "latin-1")) == [{"text": "café"}]


def test_an_unknown_encoding_is_an_error(tmp_path):
    with pytest.raises(ThawError, match="no encoding 'utf-9'"):
        list(read_rows(write(tmp_path / "a.csv", "a\n"), "utf-9"))


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@settings(max_examples=30, derandomize=True, deadline=None)
@given(values=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_any_text_survives_writing_and_reading(tmp_path_factory, suffix, values):
    path = tmp_path_factory.mktemp("round") / f"a.{suffix}"
    rows = [{"text": text, "label": label} for text, label in values]
    with RowWriter(path) as writer:
        for row in rows:
            writer.write(row)
    assert list(read_rows(path)) == rows


def test_a_failure_while_writing_leaves_what_was_there(tmp_path):
    path = write(tmp_path / "out.csv", "old")

    def fail():
        with RowWriter(path) as writer:
            writer.write({"a": 1})
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_a_full_disk_while_writing_is_explained(tmp_path, monkeypatch):
    path = tmp_path / "out.csv"

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def go():
        with RowWriter(path) as writer:
            writer.write({"a": 1})
            monkeypatch.setattr("thaw.data.read.os.fsync", full)

    with pytest.raises(ThawError, match="no room left"):
        go()
    assert list(tmp_path.iterdir()) == []


def test_dash_writes_jsonl_to_standard_output(capsys):
    with RowWriter("-") as writer:
        writer.write({"text": "é"})
    assert capsys.readouterr().out == '{"text": "é"}\n'
