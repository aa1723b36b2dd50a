"""Exports of Prodigy, doccano, Label Studio and spaCy 2 as rows."""

import json
import logging

import pytest

from thaw.data.read.entities.sentences import read_sentences
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.data.read.row_values import Columns
from thaw.data.read.texts import read_texts
from thaw.errors import ThawError

NER = Reading(spans="spans", words=True)
TEXT = "Ida Ek left Oslo"
SPANS = [[0, 6, "PER"], [12, 16, "LOC"]]


def write(tmp_path, name, records):
    path = tmp_path / name
    lines = name.endswith(".jsonl")
    path.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    return path


def spans(row):
    return [[s["start"], s["end"], s["label"]] if isinstance(s, dict) else s for s in row["spans"]]


def prodigy(answer, **more):
    return {"text": TEXT, "answer": answer, **more}


def mapped(keys=("start", "end", "label")):
    return [dict(zip(keys, span, strict=True)) for span in SPANS]


def test_prodigy_gives_what_was_accepted_and_counts_the_rest(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    records = [
        prodigy("accept", spans=mapped()),
        prodigy("reject"),
        prodigy("ignore"),
        prodigy("accept"),
        prodigy("reject"),
    ]
    path = write(tmp_path, "a.jsonl", records)
    assert [spans(row) for row in rows_of(path, NER)] == [SPANS, []]
    assert "out: 2 rows with the answer reject, 1 row with the answer ignore" in caplog.text
    assert "read as format=prodigy" in caplog.text


def test_all_of_prodigys_texts_are_read_where_annotations_do_not_matter(tmp_path):
    path = write(tmp_path, "a.jsonl", [prodigy("reject", label="x"), prodigy("accept", label="x")])
    assert len(list(rows_of(path, Reading()))) == 1
    assert len(list(rows_of(path, Reading(annotated=False)))) == 2


def test_prodigys_choices_are_labels(tmp_path):
    several = {"config": {"choice_style": "multiple"}}
    records = [
        prodigy("accept", accept=["a"]),
        prodigy("accept", accept=["a"], **several),
        prodigy("accept", accept=["a", "b"]),
        prodigy("accept", accept=[]),
    ]
    rows = rows_of(write(tmp_path, "a.jsonl", records), Reading())
    assert [row["label"] for row in rows] == ["a", ["a"], ["a", "b"], None]


def test_an_answer_that_prodigy_does_not_give_is_refused_where_prodigy_is_named(tmp_path):
    path = write(tmp_path, "a.jsonl", [prodigy("accept"), prodigy("yes")])
    assert len(list(rows_of(path, Reading()))) == 2  # a table with a column named answer
    with pytest.raises(ThawError, match=r"row 2: answer 'yes'; expected accept, reject, ignore"):
        list(rows_of(path, Reading(format="prodigy")))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("entities", mapped(("start_offset", "end_offset", "label"))),
        ("label", SPANS),
        ("labels", SPANS),
    ],
)
@pytest.mark.parametrize("form", [None, "doccano"])
def test_doccano_holds_spans_under_any_of_its_names(tmp_path, column, value, form, caplog):
    caplog.set_level(logging.INFO)
    records = [{"id": 1, "text": TEXT, column: [], "Comments": []}]
    records += [{"id": 2, "text": TEXT, column: value, "Comments": []}]
    path = write(tmp_path, "a.jsonl", records)
    how = Reading(format=form, spans="spans", words=True)
    assert [row["spans"] for row in rows_of(path, how)] == [[], value]
    assert f"entities are read from its column '{column}'" in caplog.text


def test_two_columns_of_spans_are_not_guessed_between(tmp_path):
    records = [{"text": TEXT, "gold": SPANS, "model": SPANS}]
    [row] = rows_of(write(tmp_path, "a.jsonl", records), NER)
    assert "spans" not in row


def studio(*results, **more):
    return {"id": 1, "data": {"text": TEXT}, "annotations": [{"result": list(results), **more}]}


def region(start, end, label):
    value = {"start": start, "end": end, "text": TEXT[start:end], "labels": [label]}
    return {"from_name": "ner", "type": "labels", "value": value}


def test_label_studio_gives_the_first_annotation_that_was_not_cancelled(tmp_path, caplog):
    twice = studio(region(*SPANS[0]))
    twice["annotations"].insert(0, {"result": [], "was_cancelled": True})
    twice["annotations"].append({"result": []})
    records = [
        studio(*(region(*s) for s in SPANS)),
        twice,
        studio(was_cancelled=True),
        {"id": 4, "data": {"text": TEXT}, "annotations": []},
        studio(),
    ]
    rows = list(rows_of(write(tmp_path, "a.json", records), NER))
    assert [[(s["start"], *s["labels"]) for s in row["spans"]] for row in rows] == [
        [(0, "PER"), (12, "LOC")],
        [(0, "PER")],
        [],
    ]
    said = "left out: 1 cancelled task, 1 task without an annotation, 1 annotation after the first"
    assert said in caplog.text


def test_label_studios_choices_are_a_column(tmp_path):
    one, two = (
        {"from_name": "mood", "type": "choices", "value": {"choices": c}}
        for c in (["a"], ["a", "b"])
    )
    rows = rows_of(write(tmp_path, "a.json", [studio(one), studio(two)]), Reading())
    assert [row["mood"] for row in rows] == ["a", ["a", "b"]]


def test_choices_of_label_studios_short_export_are_lists_of_labels(tmp_path):
    records = [{"text": "x", "mood": "a"}, {"text": "y", "mood": {"choices": ["a", "b"]}}]
    rows = rows_of(write(tmp_path, "a.json", records), Reading())
    assert read_texts(rows, Columns(["text"], "mood"), "here").labels == ["a", ["a", "b"]]


def test_label_studios_choices_and_spans_in_cells_of_csv_are_read(tmp_path):
    (tmp_path / "a.csv").write_text(
        'text,mood,ner\nIda left,"{""choices"": [""a"", ""b""]}",'
        '"[{""start"": 0, ""end"": 3, ""text"": ""Ida"", ""labels"": [""PER""]}]"\nno,a,\n'
    )
    rows = list(rows_of(tmp_path / "a.csv", Reading()))
    assert read_texts(rows, Columns(["text"], "mood"), "here").labels == [["a", "b"], "a"]
    names = {"tokens": "tokens", "tags": "tags", "text": "text", "spans": "ner"}
    assert read_sentences(rows, names, None, "here").labels == [["B-PER", "O"], ["O"]]


@pytest.mark.parametrize("span", ["(0, 3, 'PER')", "{'start': 0, 'end': 3, 'type': 'PER'}"])
def test_spans_are_read_as_python_writes_them_into_cells(span):
    names = {"tokens": "tokens", "tags": "tags", "text": "text", "spans": "spans"}
    row = {"text": "Ida left", "spans": f"[{span}]"}
    assert read_sentences([row], names, None, "here").labels == [["B-PER", "O"]]


def test_what_no_list_is_in_a_cell_of_spans_is_shown():
    names = {"tokens": "tokens", "tags": "tags", "text": "text", "spans": "spans"}
    with pytest.raises(ThawError, match="row 1: spans are 'PER'; expected a list"):
        read_sentences([{"text": "Ida left", "spans": "PER"}], names, None, "here")


def test_label_studios_short_export_holds_spans_with_lists_of_labels(tmp_path):
    value = [region(*s)["value"] for s in SPANS]
    records = [{"id": 1, "text": TEXT, "ner": value, "annotator": 1}]
    [row] = rows_of(write(tmp_path, "a.json", records), NER)
    assert row["spans"] == value


def test_spacys_training_data_is_read(tmp_path):
    records = [[TEXT, {"entities": SPANS}], ["None here", {"entities": []}]]
    rows = list(rows_of(write(tmp_path, "a.json", records), NER))
    assert [(row["text"], spans(row)) for row in rows] == [(TEXT, SPANS), ("None here", [])]
    [row] = rows_of(write(tmp_path, "a.json", [["x", {"cats": {"a": 1, "b": 0}}]]), Reading())
    assert (row["text"], row["cats"]) == ("x", {"a": 1, "b": 0})


def test_spacys_paragraphs_are_sentences_of_words(tmp_path):
    tokens = [
        {"id": i, "orth": w, "ner": t} for i, (w, t) in enumerate([("Oslo", "U-LOC"), (".", "-")])
    ]
    records = [{"id": 0, "paragraphs": [{"raw": "Oslo.", "sentences": [{"tokens": tokens}]}]}]
    rows = list(rows_of(write(tmp_path, "a.json", records), NER))
    assert rows == [{"tokens": ["Oslo", "."], "tags": ["U-LOC", "O"]}]


def test_lists_get_the_names_of_the_columns_or_numbers(tmp_path):
    path = write(tmp_path, "a.json", [["a text", "x"], ["another", "y"]])
    assert next(rows_of(path, Reading())) == {"0": "a text", "1": "x"}
    named = list(rows_of(path, Reading(columns=("text", "label"))))
    assert named[1] == {"text": "another", "label": "y"}
    with pytest.raises(ThawError, match=r"row 1: 2 values, data\.columns has 1 \(text\)"):
        list(rows_of(path, Reading(columns=("text",))))


def test_a_format_that_is_named_is_not_looked_for(tmp_path):
    path = write(tmp_path, "a.jsonl", [prodigy("reject"), prodigy("accept")])
    assert len(list(rows_of(path, Reading(format="jsonl")))) == 2
    assert len(list(rows_of(path, Reading(format="table")))) == 1  # as before 0.2: any table
