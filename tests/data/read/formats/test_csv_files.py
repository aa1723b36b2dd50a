"""CSV and TSV as people have them: without a header, with quotes in the text, out of Excel."""

import logging
import re
import shlex
import sys

import pytest

from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.data.read.texts import Columns, read_texts
from thaw.errors import ThawError


def rows(tmp_path, text, name="a.csv", **options):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return list(rows_of(path, Reading(**options)))


def test_columns_of_a_file_without_a_header_are_numbers_or_named(tmp_path):
    text = 'pos,"good, warm"\nneg,bad\n'
    assert rows(tmp_path, text, header=False) == [
        {"0": "pos", "1": "good, warm"},
        {"0": "neg", "1": "bad"},
    ]
    named = rows(tmp_path, text, columns=("label", "text"))
    assert named[0] == {"label": "pos", "text": "good, warm"}
    with pytest.raises(ThawError, match=r"2 fields \(0: 'pos', 1: 'good, warm'\), and data\.colum"):
        rows(tmp_path, text, columns=("id", "label", "text"))


def test_a_header_that_equals_the_given_names_is_no_row(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert len(rows(tmp_path, "label,text\nx,a\n", columns=("label", "text"))) == 1
    assert "the first line holds the names of data.columns and is no row" in caplog.text


def test_names_may_replace_those_of_a_header(tmp_path):
    got = rows(tmp_path, "v1,v2\nx,a\n", columns=("label", "text"), header=True)
    assert got == [{"label": "x", "text": "a"}]


def test_several_columns_without_a_name_are_passed_over(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert rows(tmp_path, "a,b,, ,\n1,2,,,\n3,4,x,,\n") == [
        {"a": "1", "b": "2"},
        {"a": "3", "b": "4"},
    ]
    assert "3 columns without a name are passed over" in caplog.text
    with pytest.raises(ThawError, match=r"the header has 'a' twice"):
        rows(tmp_path, "a,a,,\n1,2,,\n")


def test_empty_fields_behind_a_row_are_cut_and_others_refused(tmp_path):
    assert rows(tmp_path, "a,b\n1,2,,\n") == [{"a": "1", "b": "2"}]
    with pytest.raises(ThawError, match=r"line 2: 4 fields, the header has 2 \(a, b\)"):
        rows(tmp_path, "a,b\n1,2,,x\n")


def test_excels_line_names_the_separator(tmp_path):
    assert rows(tmp_path, "sep=;\r\na;b\r\n1,5;2\r\n") == [{"a": "1,5", "b": "2"}]
    with pytest.raises(ThawError, match=r"line 3: 1 fields"):
        rows(tmp_path, "sep=;\na;b\nx\n")


RAW = 'text\tlabel\n"It begins\tpos\nand goes on\tneg\nand ends"\tpos\nnext\tneg\n'


@pytest.mark.parametrize(("name", "delimiter"), [("a.tsv", "\t"), ("a.csv", ","), ("a.csv", ";")])
def test_quotes_that_would_join_rows_are_asked_about(tmp_path, name, delimiter):
    said = r"lines 2 to 4: .*data\.quoting=none reads 4 rows.*data\.quoting=csv reads 2\."
    with pytest.raises(ThawError, match=said):
        rows(tmp_path, RAW.replace("\t", delimiter), name)
    got = rows(tmp_path, RAW, "a.tsv", quoting="none")
    assert [row["text"] for row in got] == ['"It begins', "and goes on", 'and ends"', "next"]
    assert len(rows(tmp_path, RAW, "a.tsv", quoting="csv")) == 2


def test_a_quote_that_is_not_closed_names_the_way_out(tmp_path):
    with pytest.raises(ThawError, match=r"line 2: .*data\.quoting=none reads each line"):
        rows(tmp_path, 'text\tlabel\n"Oh\tpos\nno\tneg\n', "a.tsv")


def test_a_field_of_several_lines_is_one_field(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    got = rows(tmp_path, 'text\tlabel\n"one\ntwo"\tpos\n', "a.tsv")
    assert got == [{"text": "one\ntwo", "label": "pos"}]
    assert "1 row on several lines, within quotes" in caplog.text


# Each line of the row "a, b\nc",pos could be a row of two fields.
@pytest.mark.parametrize(
    "text",
    [
        'text,label\n"a, b\nc",pos\n"d, e",neg\n',  # not this one
        'text,label\n"d\ne",neg\n"a, b\nc",pos\n',
        'text,label\n"a, b\nc",pos\n"d\n\n""e""",neg\n',
        '"text","label"\n"a, b\nc",pos\nd,neg\n',  # names are in quotes
    ],
)
def test_lines_are_joined_where_a_file_cannot_be_read_without_quotes(tmp_path, text):
    assert [row["label"] for row in rows(tmp_path, text)] in (["pos", "neg"], ["neg", "pos"])


def test_lines_that_could_be_rows_are_refused_where_every_line_could_be(tmp_path):
    text = 'text,label\nfine,pos\n"a, b\n\nc",pos\nd,neg\n'
    with pytest.raises(ThawError, match=r"lines 3 to 5: .*none reads 4 rows.*csv reads 3\."):
        rows(tmp_path, text)
    assert len(rows(tmp_path, text, quoting="none")) == 4
    assert len(rows(tmp_path, text, quoting="csv")) == 3


def test_a_header_that_is_a_row_is_asked_about_with_what_to_type(tmp_path):
    def texts(**options):
        columns = Columns([str(options.pop("text", "text"))], str(options.pop("label", "label")))
        return read_texts(
            rows(tmp_path, "id0,1,,a warm and funny film\nid1,0,,dull\n", **options),
            columns,
            "a.csv",
        )

    with pytest.raises(
        ThawError, match=r"no header, type data\.header=false .*data\.text=3 data\.label=1"
    ):
        texts()
    with pytest.raises(
        ThawError, match=r"it has '0', '1', '2', '3'\. Set .*The first row is 0: 'id0', 1"
    ):
        texts(header=False)
    read = texts(header=False, text=3, label=1)
    assert (list(read.texts), read.labels) == ([("a warm and funny film",), ("dull",)], ["1", "0"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("text|label\ngood, warm|pos\n", "apart by '|'"),
        ('text;label, last\n"good, warm";pos\n', "apart by ';'"),
        ('"sep=;"\ntext;label\ngood, warm;pos\n', ""),
        ('text, label\n"good, warm", "pos"\n', "spaces behind ',' are no part of a field"),
    ],
)
def test_what_is_between_fields_is_found_in_the_first_two_lines(tmp_path, caplog, text, said):
    caplog.set_level(logging.INFO)
    [row] = rows(tmp_path, text)
    assert list(row.values()) == ["good, warm", "pos"]
    assert said in caplog.text


def test_quotes_with_a_backslash_before_them_are_read_when_asked_for(tmp_path):
    text = 'text,label\n"she said \\"so, so\\", and left",pos\n'
    with pytest.raises(ThawError, match=r"data\.quoting=backslash reads it"):
        rows(tmp_path, text)
    assert rows(tmp_path, text, quoting="backslash") == [
        {"text": 'she said "so, so", and left', "label": "pos"}
    ]


def test_quotes_that_join_fields_of_a_line_name_the_way_out(tmp_path):
    text = 'one\ttwo\tlabel\n"Oh\tno"\tpos\n'
    with pytest.raises(
        ThawError, match=r"line 2: 2 fields, .*Quotes hold 'Oh\\tno' together.*=none"
    ):
        rows(tmp_path, text, "a.tsv")
    [row] = rows(tmp_path, text, "a.tsv", quoting="none")
    assert row == {"one": '"Oh', "two": 'no"', "label": "pos"}


def test_what_is_between_fields_is_asked_for_where_two_marks_would_do(tmp_path):
    text = "text;label, final\n" + "good, warm;pos\n" * 3
    assert rows(tmp_path, text)[0] == {"text": "good, warm", "label, final": "pos"}
    other = text.replace("text", "review")
    assert rows(tmp_path, f"{other}bad;neg\n")[3]["review"] == "bad"  # no comma here
    with pytest.raises(ThawError, match=r"may be ',' \('review;label', ' final'\) or ';'.* sep=;"):
        rows(tmp_path, other)
    assert len(rows(tmp_path, f"sep=;\n{other}")) == 3


@pytest.mark.parametrize("name", ["a.csv", "a.xls", "a.json"])
def test_a_page_that_is_named_as_a_table_is_told(tmp_path, name):
    with pytest.raises(ThawError, match=r"is a page of HTML.*pip install lxml.*read_html") as told:
        rows(tmp_path, "\ufeff <!DOCTYPE html>\n<html>", name)
    command = shlex.split(str(told.value).split("`")[3])
    assert [*command[:2], command[3]] == ["python", "-c", str(tmp_path / name)]
    compile(command[2], name, "exec")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "text,label\r\na,x\r\n\x1a"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n\x1a'),
        ("a.json", '[{"text": "a", "label": "x"}]\x1a'),
        ("a.tsv", "text\tlabel\na\tx\x1a"),
    ],
)
def test_the_mark_of_dos_at_the_end_of_a_file_is_no_row(tmp_path, name, text):
    assert rows(tmp_path, text, name) == [{"text": "a", "label": "x"}]
    assert rows(tmp_path, "text\na\x1a\nb\x1ac\n") == [{"text": "a\x1a"}, {"text": "b\x1ac"}]


def test_pythons_dictionaries_are_read_a_line(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    text = "{'text': 'it\\'s \"fine\"', 'label': None}\n{'text': 'b', 'label': True}\n"
    got = rows(tmp_path, text, "a.jsonl")
    assert got == [{"text": 'it\'s "fine"', "label": None}, {"text": "b", "label": True}]
    assert "2 lines are read as Python's dictionaries" in caplog.text
    with pytest.raises(ThawError, match=r"data\.format=jsonl reads a Python dictionary a line"):
        rows(tmp_path, text, "a.json")
    assert rows(tmp_path, text, "a.json", format="jsonl") == got
    with pytest.raises(ThawError, match="not JSON"):
        rows(tmp_path, "{'text': open('a')}\n", "a.jsonl")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "text,label\na,x\nb,y,z\n"),
        ("a.jsonl", '{"review": {"text": "a"}, "label": "x"}\n'),
        ("a.bar", "a|x\n"),
    ],
)
def test_the_way_out_to_a_reader_works_as_typed(tmp_path, monkeypatch, name, text):
    columns = Columns(["review.text" if name == "a.jsonl" else "text"], "label")
    with pytest.raises(ThawError, match=r"data\.reader=") as told:
        read_texts(rows(tmp_path, text, name), columns, name)
    reader = re.findall(r"data\.reader=([\w.]+)", str(told.value))[0]
    module, definition = reader.split(".")[0], str(told.value).split("`")[-2]
    body = '    yield {"text": path.read_text(), "label": "x"}\n'
    (tmp_path / f"{module}.py").write_text(f"{definition}\n{body}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, module, raising=False)
    own = rows(tmp_path, text, name, reader=reader)
    assert read_texts(own, Columns(["text"], "label"), name).texts == [(text,)]
