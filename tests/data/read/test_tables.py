"""Files to rows, and rows to files."""

import bz2
import csv
import errno
import gzip
import json
import lzma
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tables import read_rows
from thaw.data.write import RowWriter
from thaw.errors import ThawError


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "gb18030", "utf-16"])
def test_a_file_in_utf8_is_read_as_it_whatever_the_encoding_of_others(
    tmp_path, caplog, name, encoding
):
    text = '{"text": "Grüße"}\n' if "json" in name else "text\nGrüße\n"
    packed = gzip.compress if name.endswith("gz") else bytes
    path = write(tmp_path / name, packed(text.encode()))
    assert list(read_rows(path, encoding)) == [{"text": "Grüße"}]
    assert caplog.text.count(f"read as UTF-8, which its bytes are, and not as {encoding}") == 1


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


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".bz2", bz2.compress), (".XZ", lzma.compress)],
)
def test_compressed_files_are_read(tmp_path, suffix, compress):
    path = write(tmp_path / f"a.csv{suffix}", compress(b"text,label\na,x\n"))
    assert list(read_rows(path)) == [{"text": "a", "label": "x"}]


def test_a_missing_file_names_its_neighbours(tmp_path):
    write(tmp_path / "reviews.csv", "a\n")
    with pytest.raises(ThawError, match=r"no such file\. Did you mean reviews\.csv"):
        list(read_rows(tmp_path / "review.csv"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\n", "is empty"),
        ("a.csv", b"\xef\xbb\xbf", "is empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", "\n \n", "is empty"),
        ("a.parquet", "", "is empty"),
        ("a", "x", "unknown format"),
        ("a.gz", gzip.compress(b"x", mtime=0), "unknown format"),
        ("a.parquet.gz", "x", r"unknown format; .* text with \.gz"),
        ("a.docx", "x", r"unknown format; thaw reads \.csv, \.tsv"),
        ("a.csv", "text,label\na,x\nb\n", "line 3: 1 fields, the header has 2"),
        ("a.csv", "text,label\na,x,y\n", "line 2: 3 fields, the header has 2"),
        ("a.csv", "text,text\na,x\n", "has 'text' twice"),
        ("a.csv", 'text,label\n"a,x\n', "line 2: unexpected end of data"),
        ("a.csv", 'text\na\n"b\nc\nd\n', "line 3: unexpected end of data"),
        ("a.csv", 'text\n"a" b\n', "line 2: .*A quote within a quoted field is written twice"),
        ("a.csv", 'a,b\n"x\ny",1\n2\n', "line 4: 1 fields, .*line end within a field needs quotes"),
        ("a.tsv", "a\tb\n1\t2\t3\n", r"line 2: 3 fields, .*'\\t' within a field needs quotes"),
        ("a.csv", "text\na\0b\n", "line 2: a NUL byte"),
        ("a.csv", b"text,label\ncaf\xe9,x\n", r"not utf-8: byte 14 \(0xe9\) in line 2.*data\.enc"),
        ("a.jsonl", '{"a": 1}\n{a}\n', "line 2: not JSON"),
        ("a.csv", "text\n".encode("utf-16"), r"byte 0 \(0xff\) in line 1.*data\.encoding=utf-16"),
        ("a.jsonl", '{"a": 1}\n\n[1]\n', "line 3: expected an object"),
        ("a.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xe9"}\n', r"byte 16 \(0xe9\) in line 2"),
        ("a.parquet", "PAR1 no", "cannot be read as Parquet"),
        ("a.csv.gz", "no gzip", "cannot be read, is it damaged"),
        ("a.csv.gz", gzip.compress(b"text\na\n", mtime=0)[:-4], "cannot be read, is it damaged"),
        (
            "a.csv.gz",
            gzip.compress(b"text\na\n", mtime=0)[:10] + b"\xff" * 20,
            "cannot be read, is it dam",
        ),
        ("a.csv.xz", lzma.compress(b"text\na\n")[:-4], "cannot be read, is it damaged"),
    ],
)
def test_what_cannot_be_read_is_explained_with_its_place(tmp_path, name, content, message):
    with pytest.raises(ThawError, match=message):
        list(read_rows(write(tmp_path / name, content)))


def test_another_encoding_is_read_when_named(tmp_path):
    path = write(tmp_path / "a.csv", "text\ncafé\n".encode("latin-1"))
    assert list(read_rows(path, "latin-1")) == [{"text": "café"}]


def test_the_encoding_of_windows_is_what_a_wrong_byte_suggests(tmp_path):
    path = write(tmp_path / "a.csv", "text\na \u2013 b\n".encode("cp1252"))
    with pytest.raises(ThawError, match=r"data\.encoding=cp1252 in training"):
        list(read_rows(path))
    assert list(read_rows(path, "cp1252")) == [{"text": "a \u2013 b"}]


@pytest.mark.parametrize(("delimiter", "said"), [(",", ""), (";", "apart by ';'"), ("\t", "\\t")])
def test_the_header_of_a_csv_tells_what_fields_are_apart_by(tmp_path, caplog, delimiter, said):
    caplog.set_level("INFO")
    rows = [["text", "label"], ["one, two", "a"], ['semi; colon\n"line"', "b"]]
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    assert [[*row.values()] for row in read_rows(tmp_path / "a.csv")] == rows[1:]
    assert said in caplog.text
    assert said or "apart by" not in caplog.text


def test_utf_16_is_read_when_named(tmp_path):
    path = write(tmp_path / "a.csv", "text\ncafé\n".encode("utf-16"))
    assert list(read_rows(path, "utf-16")) == [{"text": "café"}]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("lines", [0, 1, 817, 818, 819, 5000])
def test_a_wrong_byte_is_found_at_its_place_in_the_decompressed_file(tmp_path, compress, lines):
    # Lines of 10 bytes: the wrong byte falls before, next to and after the end of the 8192 bytes
    # decoded at once. An é is two bytes, so a place in characters would be too small.
    content = b"header789\n" + "éé56789\n".encode() * lines + b"a\xff\n"
    path = write(tmp_path / ("a.csv" if compress is bytes else "a.csv.gz"), compress(content))
    place = content.index(b"\xff")
    with pytest.raises(ThawError, match=rf"byte {place} \(0xff\) in line {lines + 2}\."):
        list(read_rows(path))


def test_a_character_cut_at_the_end_of_the_file_is_found(tmp_path):
    path = write(tmp_path / "a.csv", b"text\nabc\xe2\x82")
    with pytest.raises(ThawError, match=r"byte 8 \(0xe2\) in line 2"):
        list(read_rows(path))


def test_a_header_alone_is_a_table_without_rows(tmp_path):
    assert list(read_rows(write(tmp_path / "a.csv", "text,label\n"))) == []


def test_a_byte_order_mark_is_passed_over_however_utf_8_is_spelled(tmp_path):
    path = write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "a"}\n')
    for encoding in ("utf-8", "UTF8", "utf-8-sig"):
        assert list(read_rows(path, encoding)) == [{"text": "a"}]


def test_only_line_ends_end_lines(tmp_path):
    text = "a\u2028b\x85c\x0cd"
    assert list(read_rows(write(tmp_path / "a.csv", f"text\n{text}\n"))) == [{"text": text}]
    path = write(tmp_path / "a.jsonl", '{"text": "a\u2028b\x85c"}\n')
    assert list(read_rows(path)) == [{"text": "a\u2028b\x85c"}]


def test_line_ends_of_every_system_are_read(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        path = write(tmp_path / "a.csv", f"text{end}a{end}{end}b{end}")
        assert list(read_rows(path)) == [{"text": "a"}, {"text": "b"}]


def test_large_fields_are_read(tmp_path):
    path = write(tmp_path / "a.csv", "text\n" + "x" * 1_000_000 + "\n")
    assert [len(row["text"]) for row in read_rows(path)] == [1_000_000]


def test_a_directory_is_not_a_file(tmp_path):
    with pytest.raises(ThawError, match="is a directory; name a file in it"):
        read_rows(tmp_path)


def test_a_damaged_page_of_parquet_is_an_error(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": range(20_000)}), path)
    content = bytearray(path.read_bytes())
    content[10:3000] = b"\xff" * 2990
    with pytest.raises(ThawError, match="cannot be read as Parquet, is it damaged"):
        list(read_rows(write(path, bytes(content))))


def test_parquet_with_a_column_twice_is_an_error(tmp_path):
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(ThawError, match="has 'a' twice"):
        list(read_rows(tmp_path / "a.parquet"))


def test_rows_before_an_error_come_first(tmp_path):
    rows = read_rows(write(tmp_path / "a.csv", "a,b\n1,2\n3\n"))
    assert next(rows) == {"a": "1", "b": "2"}
    with pytest.raises(ThawError, match="line 3"):
        next(rows)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz"])
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    line = '{"text": "' + "x" * 1000 + '"}\n' if "jsonl" in name else "x" * 1000 + "\n"
    content = ("" if "jsonl" in name else "text\n") + line * 20_000
    compress = gzip.compress if name.endswith(".gz") else bytes
    path = write(tmp_path / name, compress(content.encode()))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(path)) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000, f"{peak} bytes for a file of {len(content)}"


def test_memory_does_not_grow_with_a_row_group_of_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    texts = [f"{i:01000}" for i in range(40_000)]
    pq.write_table(pa.table({"text": texts}), path, compression="none", use_dictionary=False)
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in read_rows(path)]
    assert len(held) == 40_000
    assert max(held) < 15_000_000 < path.stat().st_size


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
            monkeypatch.setattr("thaw.storage.files.os.fsync", full)

    with pytest.raises(ThawError, match="no room left"):
        go()
    assert list(tmp_path.iterdir()) == []


def test_dash_writes_jsonl_to_standard_output(capsys):
    with RowWriter("-") as writer:
        writer.write({"text": "é"})
    assert capsys.readouterr().out == '{"text": "é"}\n'


def written(path, rows):
    with RowWriter(path) as writer:
        for row in rows:
            writer.write(row)
    return list(read_rows(path))


def test_csv_holds_lists_as_json(tmp_path):
    rows = [{"text": "a", "label": ["é", "y"]}]
    assert written(tmp_path / "a.csv", rows) == [{"text": "a", "label": '["é", "y"]'}]


def test_a_table_without_any_row_is_whole(tmp_path):
    assert written(tmp_path / "a.parquet", []) == []


@pytest.mark.parametrize(("suffix", "none"), [("csv", ""), ("parquet", None)])
def test_a_column_that_the_first_row_lacks_is_kept(tmp_path, suffix, none):
    got = written(tmp_path / f"a.{suffix}", [{"a": "1"}, {"b": "2"}])
    assert got == [{"a": "1", "b": none}, {"a": none, "b": "2"}]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_that_comes_too_late_is_an_error(tmp_path, suffix):
    with pytest.raises(ThawError, match=r"a row has a column 'b', .* Write a \.jsonl instead"):
        written(tmp_path / f"a.{suffix}", [{"a": 1}] * 5000 + [{"a": 1, "b": 2}] * 4000)
    assert list(tmp_path.iterdir()) == []


def test_parquet_takes_text_in_columns_that_began_without_values(tmp_path):
    rows = [{"a": None, "b": []}] * 5000 + [{"a": "x", "b": ["y"]}]
    assert written(tmp_path / "a.parquet", rows) == rows


@pytest.mark.parametrize("late", ["x", "7", 1.5, 2**70])
def test_parquet_refuses_a_later_value_of_another_type_rather_than_change_it(tmp_path, late):
    with pytest.raises(ThawError, match="A column has one type"):
        written(tmp_path / "a.parquet", [{"a": 1}] * 4096 + [{"a": late}])
    assert list(tmp_path.iterdir()) == []


def test_parquet_is_written_in_several_row_groups(tmp_path):
    rows = [{"a": i} for i in range(10_000)]
    assert written(tmp_path / "a.parquet", rows) == rows
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 3


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.csv.gz"])
def test_a_format_that_cannot_be_written_is_an_error(tmp_path, name):
    with pytest.raises(ThawError, match=r"thaw writes \.csv"):
        RowWriter(tmp_path / name)


def test_a_folder_that_is_not_there_is_an_error_with_its_path(tmp_path):
    with pytest.raises(ThawError, match=r"no/a\.csv cannot be written"):
        written(tmp_path / "no" / "a.csv", [{"a": 1}])


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_text_that_no_encoding_holds_is_an_error(tmp_path, suffix):
    with pytest.raises(ThawError, match="surrogates not allowed"):
        written(tmp_path / f"a.{suffix}", [{"a": "\ud800"}])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_in_the_middle_of_parquet_is_explained_and_leaves_nothing(
    tmp_path, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(ThawError, match=r"no room left for .*a\.parquet"):
        written(tmp_path / "a.parquet", [{"a": 1}])
    assert list(tmp_path.iterdir()) == []


def test_the_nameless_index_column_of_pandas_is_read(tmp_path):
    path = write(tmp_path / "a.csv", ",text\n0,x\n")
    assert list(read_rows(path)) == [{"": "0", "text": "x"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04\x14\x00", "a zip archive, as Excel's .xlsx files are"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel or Word file"),
        (gzip.compress(b"text\na\n", mtime=0), "compressed with gzip: its name has to end in .gz"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer: `git lfs pull`"),
        (b"\x80\x04\x95\x0e\x00", "a pickle, which could run code"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.unknown"])
def test_what_is_no_text_says_what_it_is_and_not_another_encoding(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ThawError, match=f"is no text. It begins as {message}"):
        list(read_rows(tmp_path / name))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_read_as_its_message_says(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes("text\na film\n".encode(encoding))
    with pytest.raises(ThawError, match=f"data.encoding={encoding} in training"):
        list(read_rows(path))
    assert list(read_rows(path, encoding)) == [{"text": "a film"}]


def test_a_text_file_of_fields_apart_by_tabs_is_told_how_it_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("ham\tHello there\n")
    with pytest.raises(
        ThawError, match=r"0: 'ham', 1: 'Hello there', apart by tabs: data\.format=tsv"
    ):
        list(read_rows(tmp_path / "a.txt"))
