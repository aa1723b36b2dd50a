"""How a prediction's input is read: as the run's files, unless said otherwise."""

import io

import pytest

from thaw.data.read.formats.registry import rows_of
from thaw.data.read.input_reading import reading_of
from thaw.data.read.reading import Reading
from thaw.errors import ThawError
from thaw.predict import input_rows

OPTIONS = (
    "format",
    "header",
    "columns",
    "quoting",
    "sentence",
    "token_column",
    "encoding",
    "reader",
)
RUN = {
    "format": "columns",
    "header": False,
    "columns": ["id", "text"],
    "quoting": "none",
    "encoding": "cp1252",
    "token_column": 1,
    "reader": "own.rows",
}


def reading(tmp_path, name="new.tsv", text="1\tIda\tO\n", words=True, run=RUN, **typed):
    path = tmp_path / name
    path.write_text(text)
    given = dict.fromkeys(OPTIONS, "") | {"input": str(path)} | typed
    return reading_of(given, run, words, "text")


def test_what_is_not_typed_is_as_in_the_run(tmp_path):
    how = reading(tmp_path)
    assert (how.format, how.header, how.columns, how.quoting) == (
        "columns",
        False,
        ["id", "text"],
        "none",
    )
    assert (how.encoding, how.token_column, how.reader) == ("cp1252", 1, "own.rows")
    assert (how.tag_column, how.annotated) == (None, False)


def test_what_is_typed_comes_first(tmp_path):
    how = reading(
        tmp_path, header="true", quoting="csv", encoding="utf-8", token_column="0", format="tsv"
    )
    assert (how.format, how.header, how.columns, how.quoting) == ("tsv", True, None, "csv")
    assert (how.encoding, how.token_column, how.reader) == ("utf-8", 0, None)
    assert reading(tmp_path, columns="[a, b]").columns == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "text", "words", "run", "form"),
    [
        ("a.jsonl", "{}", True, RUN, None),  # the name is certain
        ("a.txt", "a text\n", True, RUN, "text"),
        ("a.txt", "Ida B-PER\n", True, {}, "columns"),
        ("a.txt", "Ida B-PER\n", False, {}, "text"),
        ("a.txt", "__label__x Ida\n", False, {}, None),
        ("a.conll", "Ida\n", True, {}, "columns"),
        ("a.tsv", "text\nIda\n", True, {}, None),
    ],
)
def test_the_format_is_told_by_name_run_and_content(tmp_path, name, text, words, run, form):
    assert reading(tmp_path, name, text, words, run).format == form


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"format": "cvs"}, r"format=cvs: expected one of auto, table, csv"),
        ({"header": "no"}, r"header=no: expected true or false"),
        ({"quoting": "off"}, r"quoting=off: expected one of csv, backslash, none"),
        ({"token_column": "x"}, r"token_column=x: expected a whole number"),
        ({"input": "-", "format": "csv"}, r"format=csv: standard input is read as a text a line"),
    ],
)
def test_a_wrong_option_is_explained(tmp_path, typed, message):
    with pytest.raises(ThawError, match=message):
        reading(tmp_path, **typed)


RAW = 'text,label\n"It begins,pos\nand goes on,neg\nand ends",pos\nnext,neg\n'


@pytest.mark.parametrize(("quoting", "count"), [("none", 4), ("csv", 2)])
def test_an_input_never_gives_other_rows_than_it_has_lines_in_silence(tmp_path, quoting, count):
    path = tmp_path / "new.csv"
    how = reading(tmp_path, path.name, RAW, words=False, run={})
    with pytest.raises(ThawError, match=r"lines 2 to 4: .*none reads 4 rows.*In prediction it is"):
        list(rows_of(path, how))
    typed = reading(tmp_path, path.name, RAW, words=False, run={}, quoting=quoting)
    of_the_run = reading(tmp_path, path.name, RAW, words=False, run={"quoting": quoting})
    assert [len(list(rows_of(path, how))) for how in (typed, of_the_run)] == [count, count]


def test_lines_of_standard_input_are_rows_whatever_quotes_they_hold(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(RAW.encode())))
    rows = list(input_rows({"input": "-"}, Reading(format="text"), skip=False))
    assert [row["text"] for row in rows] == RAW.splitlines()
