"""fastText, folders, brat, CoNLL-U, class names, Excel, .spacy, and readers of one's own."""

import datetime
import logging

import pytest

from thaw.data.read.formats.registry import FORMATS, rows_of
from thaw.data.read.reading import Reading
from thaw.errors import ThawError

NER = Reading(spans="spans", words=True)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_fasttext_is_found_by_its_first_lines(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = write(tmp_path / "cooking.train", "__label__a  one two\n\n__label__b three __label__\n")
    with pytest.raises(ThawError, match=r"line 3: __label__ without a name"):
        list(rows_of(path, Reading()))
    path = write(tmp_path / "cooking.train", "__label__a  one two\n\n__label__b\tthree\n")
    assert [row["label"] for row in rows_of(path, Reading())] == ["a", "b"]
    assert "read as format=fasttext" in caplog.text


def test_fasttext_labels_are_lists_where_a_text_has_several(tmp_path):
    text = "__label__a one\n__label__a __label__b two words\nmid __label__c dle\n"
    rows = list(rows_of(write(tmp_path / "a.txt", text), Reading(format="fasttext")))
    assert [row["label"] for row in rows] == [["a"], ["a", "b"], ["c"]]
    assert [row["text"] for row in rows] == ["one", "two words", "mid dle"]


def test_a_folder_a_class_is_read_in_the_order_of_names(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name in ("pos/2.txt", "pos/1.txt", "neg/a", "neg/.hidden"):
        write(tmp_path / name, f"{name}\nsecond line")
    write(tmp_path / "README", "about")
    rows = list(rows_of(tmp_path, Reading()))
    assert [(row["document"], row["label"]) for row in rows] == [
        ("neg/a", "neg"),
        ("pos/1.txt", "pos"),
        ("pos/2.txt", "pos"),
    ]
    assert rows[0]["text"] == "neg/a\nsecond line"
    said = "left out: 1 file beside the folders, such as README, 1 hidden file"
    assert said in caplog.text


def test_a_folder_in_a_class_is_refused_with_what_may_be_meant(tmp_path):
    write(tmp_path / "train/pos/1.txt", "a")
    write(tmp_path / "test/pos/1.txt", "a")
    with pytest.raises(ThawError, match=r"is a directory; name a file in it"):
        list(rows_of(tmp_path, Reading()))
    with pytest.raises(ThawError, match=r"holds a folder, pos; .*data\.train=.*test"):
        list(rows_of(tmp_path, Reading(format="folders")))


def test_brat_gives_a_row_a_document(tmp_path, caplog):
    write(tmp_path / "a.txt", "Ida Ek\r\nleft Oslo and Bergen.")
    ann = (
        "T1\tPER 0 6\tIda Ek\nR1\tGo Arg1:T1 Arg2:T2\n#1\tNote T1\tx\nT2\tLOC 13 17;22 28\tOslo B\n"
    )
    write(tmp_path / "a.ann", ann)
    write(tmp_path / "deep/b.txt", "Nobody")
    write(tmp_path / "deep/b.ann", "")
    write(tmp_path / "c.txt", "no one annotated this")
    rows = list(rows_of(tmp_path, NER))
    assert [row["document"] for row in rows] == ["a.txt", "deep/b.txt"]
    found = [(rows[0]["text"][s["start"] : s["end"]], s["label"]) for s in rows[0]["spans"]]
    assert found == [("Ida Ek", "PER"), ("Oslo and Bergen", "LOC")]
    assert rows[1]["spans"] == []
    said = "out: 1 text without an .ann file, such as c.txt, 2 annotations that are no entities"
    assert said in caplog.text
    assert "1 gap of discontinuous entities, read from their first to their" in caplog.text
    assert len(list(rows_of(tmp_path, Reading(annotated=False)))) == 3


@pytest.mark.parametrize("line", ["T1\tPER 0\tx", "T1 PER 0 6 Ida", "T1\tPER a 6\tIda"])
def test_a_bad_line_of_brat_is_shown(tmp_path, line):
    write(tmp_path / "a.txt", "Ida")
    write(tmp_path / "a.ann", f"R1\tx\n{line}\n")
    with pytest.raises(ThawError, match=r"a\.ann line 2: 'T1.*expected an entity such as"):
        list(rows_of(tmp_path, NER))


CONLLU = """# sent_id = 1
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\tNER=O|SpaceAfter=No
2\tIda\tIda\tPROPN\t_\t_\t1\tobj\t_\tNER=B-PER
2.1\tgone\t_\t_\t_\t_\t_\t_\t_\t_

1\tOslo\tOslo\tPROPN\t_\t_\t0\troot\t_\tNER=B-LOC
"""


def test_conllu_gives_words_without_ranges_and_tags_of_misc(tmp_path):
    rows = list(rows_of(write(tmp_path / "a.conllu", CONLLU), NER))
    assert rows == [
        {"tokens": ["Vamos", "Ida"], "tags": ["O", "B-PER"]},
        {"tokens": ["Oslo"], "tags": ["B-LOC"]},
    ]
    untagged = rows_of(tmp_path / "a.conllu", Reading(tag_column=None))
    assert next(untagged) == {"tokens": ["Vamos", "Ida"]}


def test_conllu_plus_names_its_columns(tmp_path):
    text = "# global.columns = ID FORM NE\n1\tIda\tB-PER\n2\tsaid\tO\n"
    [row] = rows_of(write(tmp_path / "a.conllup", text), NER)
    assert row == {"tokens": ["Ida", "said"], "tags": ["B-PER", "O"]}


def test_conllu_without_tags_says_what_is_there(tmp_path):
    path = write(tmp_path / "a.conllu", CONLLU.replace("NER=", "Mood="))
    assert next(rows_of(path, NER))["tags"] == ["O", "B-PER"]
    path = write(tmp_path / "a.conllu", CONLLU.replace("NER=B-", "NER=x"))
    with pytest.raises(ThawError, match=r"none of its fields \(.*NER.*\) holds tags of entities"):
        list(rows_of(path, NER))
    path = write(tmp_path / "a.conllu", "just words\nhere\n")
    with pytest.raises(ThawError, match=r"ends in line 2 is no CoNLL-U"):
        list(rows_of(path, NER))


def test_class_names_of_parquet_and_saved_data_sets_are_labels(tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

    tags = ["O", "B-PER", "I-PER"]
    features = Features(
        text=Value("string"),
        label=ClassLabel(names=["World", "Sports"]),
        ner_tags=List(ClassLabel(names=tags)),
    )
    data = Dataset.from_dict(
        {"text": ["a", "b", "c"], "label": [1, -1, None], "ner_tags": [[0, 1], [2], []]}, features
    )
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(tmp_path / "saved")
    DatasetDict(train=data, test=data).save_to_disk(tmp_path / "both")
    for path in ("a.parquet", "saved", "both:test", "both/train"):
        rows = list(rows_of(tmp_path / path, Reading()))
        assert [row["label"] for row in rows] == ["Sports", None, None]
        assert [row["ner_tags"] for row in rows] == [["O", "B-PER"], ["I-PER"], []]
    with pytest.raises(ThawError, match=r"holds the splits train, test: name one, .*both/train"):
        list(rows_of(tmp_path / "both", Reading()))


def test_a_class_that_the_schema_does_not_name_is_refused():
    from thaw.data.read.formats.arrow_files import with_names

    with pytest.raises(ThawError, match=r"here: row 2: label is 7, and its classes are 0 to 1"):
        list(with_names([{"label": 0}, {"label": 7}], {"label": ["a", "b"]}, "here"))


def test_excel_gives_rows_of_a_sheet(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for cells in (
        ["text", "label", "day"],
        ["a", 1, datetime.date(2024, 2, 1)],
        [],
        ["b", None, None],
    ):
        book.active.append(cells)
    book.create_sheet("More").append(["text"])
    book["More"].append(["c"])
    book.save(tmp_path / "a.xlsx")
    rows = list(rows_of(tmp_path / "a.xlsx", Reading()))
    assert [(row["text"], row["label"]) for row in rows] == [("a", 1), ("b", None)]
    assert list(rows_of(tmp_path / "a.xlsx:More", Reading())) == [{"text": "c"}]
    with pytest.raises(ThawError, match=r"a\.xlsx:Less: no such file|has no sheet 'Less'"):
        list(rows_of(tmp_path / "a.xlsx:Less", Reading()))
    unnamed = list(rows_of(tmp_path / "a.xlsx", Reading(header=False)))
    assert unnamed[0] == {"0": "text", "1": "label", "2": "day"}
    write(tmp_path / "b.xlsx", "no workbook")
    with pytest.raises(ThawError, match=r"b\.xlsx cannot be read as Excel"):
        list(rows_of(tmp_path / "b.xlsx", Reading()))


def test_spacys_documents_are_words_with_tags_and_categories(tmp_path):
    spacy = pytest.importorskip("spacy")
    from spacy.tokens import DocBin

    nlp = spacy.blank("en")
    one, two = nlp("Ida Ek  left Oslo"), nlp("Nobody")
    one.ents = [one.char_span(0, 6, "PER"), one.char_span(13, 17, "LOC")]
    two.cats = {"calm": 1.0, "loud": 0.0}
    DocBin(docs=[one, two], store_user_data=True).to_disk(tmp_path / "a.spacy")
    rows = list(rows_of(tmp_path / "a.spacy", NER))
    assert rows[0]["tokens"] == ["Ida", "Ek", "left", "Oslo"]
    assert rows[0]["tags"] == ["B-PER", "I-PER", "O", "B-LOC"]
    assert (rows[1]["text"], rows[1]["cats"]) == ("Nobody", {"calm": 1.0, "loud": 0.0})
    write(tmp_path / "b.spacy", "no documents")
    with pytest.raises(ThawError, match=r"b\.spacy cannot be read by spaCy"):
        list(rows_of(tmp_path / "b.spacy", NER))


READER = """
def rows(path):
    for line in path.read_text().splitlines():
        label, text = line.split("|")
        yield {"text": text, "label": label}

def numbers(path):
    return [1, 2]
"""


def test_a_reader_of_ones_own_is_a_function_from_path_to_rows(tmp_path, monkeypatch):
    write(tmp_path / "bar_files.py", READER)
    monkeypatch.syspath_prepend(tmp_path)
    path = write(tmp_path / "a.bar", "x|one\ny|two\n")
    own = list(rows_of(path, Reading(reader="bar_files.rows")))
    assert own == [{"text": "one", "label": "x"}, {"text": "two", "label": "y"}]
    for name, message in (
        ("bar_files.row", r"reader=bar_files\.row cannot be imported: .*has no attribute"),
        ("bar_file.rows", r"cannot be imported: no module 'bar_file'\. Exp"),
        ("rows", r"Expected module\.function"),
        ("bar_files.numbers", r"row 1 of .*a\.bar is 1; expected a dict"),
    ):
        with pytest.raises(ThawError, match=message):
            list(rows_of(path, Reading(reader=name)))
    write(path, "no bar")
    with pytest.raises(ThawError, match=r"failed after 0 rows of .*a\.bar: ValueError"):
        list(rows_of(path, Reading(reader="bar_files.rows")))


def test_an_unknown_format_names_those_there_are(tmp_path):
    path = write(tmp_path / "a.xyz", "some text\n")
    with pytest.raises(ThawError, match=r"unknown format; .*data\.format=csv\|tsv.*data\.reader"):
        list(rows_of(path, Reading()))
    with pytest.raises(ThawError, match=r"data\.format=cvs: expected one of csv, tsv"):
        list(rows_of(path, Reading(format="cvs")))
    assert list(rows_of(path, Reading(format="text"))) == [{"text": "some text"}]


def test_a_suffix_tells_one_format():
    suffixes = [s for form in FORMATS.values() for s in form.suffixes]
    assert len(suffixes) == len(set(suffixes))
