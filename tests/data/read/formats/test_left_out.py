"""What a reader leaves out is counted with its reason, in every format, up to the table."""

import json

import pytest

from helpers.tiny import write_csv
from thaw.data.ner import TokenData
from thaw.data.read.formats.registry import FORMATS
from thaw.data.read.rows import number_of
from thaw.data.sequence import SequenceData
from thaw.report.tables import data_tables

TEXT = "Ida Ek left Oslo"
SPAN = {"start": 0, "end": 6, "label": "PER"}
ROWS = [{"text": f"film {i}", "label": "ab"[i % 2]} for i in range(8)]


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def lines(path, records):
    return put(path, "\n".join(map(json.dumps, records)))


def columns(*tags):
    """A sentence with a word in each line."""
    return "".join(f"word{i}\t{tag}\n" for i, tag in enumerate(tags)) + "\n"


def csv(tmp_path):
    text = "".join(f"{row['text']},{row['label']}\n\n" for row in ROWS[:4])
    return put(tmp_path / "a.csv", f"text,label\n{text}"), {"blank lines": 4}, 4


def tsv(tmp_path):
    text = "".join(f"{row['text']}\t{row['label']}\n" for row in ROWS)
    return put(tmp_path / "a.tsv", f"text\tlabel\n\n{text}"), {"blank lines": 1}, 8


def jsonl(tmp_path):
    path = lines(tmp_path / "a.jsonl", ROWS)
    return put(path, path.read_text().replace("\n", "\n\n", 2)), {"blank lines": 2}, 8


def json_(tmp_path):
    path = put(tmp_path / "a.json", json.dumps({"version": 1, "data": ROWS}))
    return path, {"values beside the records": 1}, 8


def parquet(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features(text=Value("string"), label=ClassLabel(names=["a", "b"]))
    rows = [{"text": f"film {i}", "label": i % 3 - 1} for i in range(9)]
    data = Dataset.from_list(rows, features)
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(tmp_path / "saved")
    return tmp_path / "a.parquet", {"no label": 3}, 9


def saved(tmp_path):
    return parquet(tmp_path)[0].with_name("saved"), {"no label": 3}, 9


def excel(tmp_path):
    book = pytest.importorskip("openpyxl").Workbook()
    for row in [["text", "label"], ["x", "a"], [], ["y", "b"], ["z", "a"]]:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    return tmp_path / "a.xlsx", {"empty rows": 1}, 3


def fasttext(tmp_path):
    text = "".join(f"__label__{row['label']} {row['text']}\n\n" for row in ROWS)
    return put(tmp_path / "a.txt", text), {"blank lines": 8}, 8


def folders(tmp_path):
    for number, row in enumerate(ROWS):
        put(tmp_path / "all" / row["label"] / f"{number}.txt", row["text"])
    put(tmp_path / "all" / "a" / ".hidden", "x")
    put(tmp_path / "all" / "README", "x")
    left_out = {"files beside the folders, such as README": 1, "hidden files": 1}
    return tmp_path / "all", left_out, 8


def columns_(tmp_path):
    text = f"-DOCSTART- O\n\n# a\n{columns('B-PER', 'O')}{columns('O')}"
    return put(tmp_path / "a.conll", text), {"-DOCSTART- lines": 1, "comments": 1}, 2


def conllu(tmp_path):
    def word(number, tag):
        return f"{number}\tword\t_\t_\t_\t_\t_\t_\t_\t{tag}\n"

    text = f"{word('1-2', '_')}{word(1, 'NER=B-PER')}{word(2, '_')}\n{word(1, 'NER=O')}\n"
    return put(tmp_path / "a.conllu", text), {"lines of ranges and empty nodes": 1}, 2


def brat(tmp_path):
    for name, ann in (("a", "T1\tPER 0 3;4 6\tIda Ek\nA1\tNew T1\n"), ("b", ""), ("c", None)):
        put(tmp_path / "all" / f"{name}.txt", TEXT)
        if ann is not None:
            put(tmp_path / "all" / f"{name}.ann", ann)
    left_out = {
        "texts without an .ann file, such as c.txt": 1,
        "annotations that are no entities": 1,
        "gaps of discontinuous entities, read from their first to their last character": 1,
    }
    return tmp_path / "all", left_out, 3


def prodigy(tmp_path):
    answers = ["accept", "accept", "reject", "ignore", "reject"]
    path = lines(
        tmp_path / "a.jsonl", [{"text": TEXT, "spans": [SPAN], "answer": a} for a in answers]
    )
    return path, {"rows with the answer reject": 2, "rows with the answer ignore": 1}, 5


def doccano(tmp_path):
    record = {"text": TEXT, "label": [[0, 6, "PER"], [0, 3, "PER"]]}
    path = lines(tmp_path / "a.jsonl", [record, {"text": " ", "label": []}, record])
    left_out = {"sentences without a word": 1, "spans overlapped by a longer one": 2}
    return path, left_out, 3


def label_studio(tmp_path):
    def task(*done):
        return {"data": {"text": TEXT}, "annotations": list(done)}

    value = {"start": 0, "end": 6, "labels": ["PER"]}
    good, cancelled = {"result": [{"type": "labels", "value": value}]}, {"was_cancelled": True}
    tasks = [task(good, good), task(cancelled), task(), task(good)]
    left_out = {"cancelled tasks": 1, "tasks without an annotation": 1}
    left_out["annotations after the first one of a task"] = 1
    return put(tmp_path / "a.json", json.dumps(tasks)), left_out, 4


def spacy_json(tmp_path):
    said = {"entities": [[0, 6, "PER"], [4, 6, "PER"]]}
    path = put(tmp_path / "a.json", json.dumps([[TEXT, said], [TEXT, said]]))
    return path, {"spans overlapped by a longer one": 2}, 2


def spacy(tmp_path):
    nlp = pytest.importorskip("spacy").blank("en")
    from spacy.tokens import DocBin

    documents = [nlp("Ida Ek  left Oslo"), nlp("Nobody")]
    documents[0].ents = [documents[0].char_span(0, 6, "PER")]
    DocBin(docs=documents).to_disk(tmp_path / "a.spacy")
    return tmp_path / "a.spacy", {"words that are spaces alone": 1}, 2


MAKERS = (csv, tsv, jsonl, json_, parquet, saved, excel, fasttext, folders)
WORDS = (columns_, conllu, brat, prodigy, doccano, label_studio, spacy_json, spacy)


def test_every_format_with_labels_is_here():
    names = {maker.__name__.rstrip("_") for maker in (*MAKERS, *WORDS)}
    assert names == set(FORMATS) - {"text"}  # whose lines have none


@pytest.mark.parametrize("maker", [*MAKERS, *WORDS], ids=lambda maker: maker.__name__)
def test_what_is_left_out_is_in_the_table_with_the_format(maker, tmp_path, tiny_bert):
    path, left_out, rows = maker(tmp_path)
    options = {"name": "own", "tokenizer": tiny_bert, "max_tokens": 16, "validation": None}
    if maker in WORDS:
        data = TokenData(train=str(path), overlaps="longest", **options)
    else:
        data = SequenceData(train=str(path), drop_unlabelled=True, **options)
    data.read()
    summary = data.summary()
    (source,) = summary.sources
    assert (source.format, source.rows) == (maker.__name__.rstrip("_"), rows)
    assert source.left_out == left_out
    assert summary.numbers()["sources"][0]["left_out"] == left_out
    for count, reason in ((count, reason) for reason, count in left_out.items()):
        assert number_of(count, reason) in summary.text()
        assert number_of(count, reason) in data_tables(summary)[0].rows[0][-1]


def test_a_corpus_counts_blank_lines_and_files_that_are_passed_over(tmp_path, tiny_bert):
    from thaw.data.mlm import MaskedLanguageModelData

    put(tmp_path / "all" / "a.txt", "one\n\n\ntwo\n")
    put(tmp_path / "all" / "b.txt", "")
    put(tmp_path / "all" / "c.md", "three")
    options = {"name": "own", "tokenizer": tiny_bert, "max_tokens": 16, "validation": None}
    data = MaskedLanguageModelData(train=str(tmp_path / "all"), **options)
    data.read()
    (source,) = data.summary().sources
    assert (source.format, source.rows) == ("text", 2)
    assert source.left_out == {
        "empty files": 1,
        "files without .txt in their names": 1,
        "blank lines": 2,
    }
    # The longest text is counted with the tokens that the model has around it.
    assert data.summary().splits["train"].longest == len(data.tokenizer("two")["input_ids"])


def test_the_format_is_named_as_it_was_read(tmp_path, tiny_bert):
    options = {"name": "own", "tokenizer": tiny_bert, "max_tokens": 16, "validation": None}
    path = write_csv(tmp_path / "a.csv", [("x", "a"), ("y", "b")], ["text", "label"])
    data = SequenceData(train=str(path), format="table", **options)
    data.read()
    assert data.summary().sources[0].format == "csv"
    put(tmp_path / "own.conll", columns("B-PER") + columns("O"))
    data = TokenData(train=str(tmp_path / "own.conll"), **options)
    data.read()
    assert data.summary().sources[0].format == "columns"
