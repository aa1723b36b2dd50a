"""Rows in messages are positions in the file, whatever is left out before them."""

import json

import pytest

from thaw.data.read.entities.sentences import read_sentences
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.data.read.row_values import Columns
from thaw.data.read.surrogates import replace_surrogates
from thaw.data.read.texts import read_texts
from thaw.errors import ThawError

NAMES = {"tokens": "tokens", "tags": "tags", "text": "text", "spans": "spans"}
OVERLAP = [{"start": 0, "end": 4, "label": "A"}, {"start": 2, "end": 6, "label": "B"}]


def task(text, spans, **about):
    """A task of Label Studio."""
    results = [{"type": "labels", "value": {**s, "labels": [s["label"]]}} for s in spans]
    return {"data": {"text": text}, "annotations": [{"result": results, **about}]}


def sentences(path, **options):
    how = Reading(spans="spans", words=True, **options)
    return read_sentences(replace_surrogates(rows_of(path, how), "a"), NAMES, None, "a")


def test_spans_that_overlap_are_of_the_task_in_the_file(tmp_path):
    tasks = [task("Ida Ek", OVERLAP[:1]), {"data": {"text": "x"}, "annotations": []}]
    tasks += [task("y", [], was_cancelled=True), task("Ida \ud800", []), task("Ida Ek", OVERLAP)]
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    with pytest.raises(ThawError, match=r"a: row 5: spans .* overlap"):
        sentences(tmp_path / "a.json")


def test_spans_that_overlap_are_of_the_record_of_prodigy(tmp_path):
    rows = [{"text": "Ida Ek", "answer": "reject", "spans": []}] * 2
    rows += [{"text": "Ida Ek", "answer": "accept", "spans": OVERLAP}]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    with pytest.raises(ThawError, match=r"a: row 5: spans .* overlap"):
        sentences(tmp_path / "a.jsonl")


def test_of_brat_the_text_is_named(tmp_path):
    (tmp_path / "alone.txt").write_text("x")
    (tmp_path / "both.txt").write_text("Ida Ek")
    (tmp_path / "both.ann").write_text("T1\tA 0 4\tIda \nT2\tB 2 6\ta Ek\n")
    with pytest.raises(ThawError, match=r"\(both\.txt\): spans .* overlap"):
        sentences(tmp_path)


def test_of_a_word_a_row_the_first_row_of_the_sentence_is_named(tmp_path):
    rows = "sentence,tokens,tags\n1,Ida,B-PER\n,Ek,I-PER\n2,ran,O\n,off,7\n"
    (tmp_path / "a.csv").write_text(rows)
    with pytest.raises(ThawError, match=r"row 3"):
        sentences(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "text,label\nx,a\n\n\ny,b\nz,\n"),
        ("a.jsonl", '{"text": "x", "label": "a"}\n\n\n\n{"text": "z", "label": ""}\n'),
        ("a.txt", "__label__a x\n\n\n__label__b\n__label__a\n"),
    ],
)
def test_rows_of_texts_count_blank_lines(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    columns = Columns(text=["text"], label="label")
    with pytest.raises(ThawError, match=r"\(rows (4, )?5\)"):
        read_texts(rows_of(tmp_path / name, Reading()), columns, "a")


def test_rows_of_a_sheet_are_numbered_as_in_excel(tmp_path):
    book = pytest.importorskip("openpyxl").Workbook()
    for row in [["text", "label"], ["x", "a"], [], ["y", "b"], ["z", None]]:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(ThawError, match=r"1 row has no label \(rows 5\) of 3"):
        read_texts(rows_of(tmp_path / "a.xlsx", Reading()), Columns(["text"], "label"), "a")
