"""What was understood of a data set, as a table in the log and as numbers."""

import json
import logging

import pytest

from helpers.tiny import write_csv
from thaw.data.read.labels.names import label_counts
from thaw.data.read.texts import Source
from thaw.data.sequence import SequenceData
from thaw.data.summary import DataSummary, SplitSummary
from thaw.errors import ThawError


@pytest.fixture
def sequence(tiny_bert, tmp_path):
    """A function that makes data of rows of text and label, read or not."""

    def make(rows, **options):
        path = write_csv(tmp_path / "own.csv", rows, ["text", "label"])
        return SequenceData(
            name="own", tokenizer=tiny_bert, train=str(path), max_tokens=8, **options
        )

    return make


def test_what_is_read_left_out_and_cut_is_counted(sequence, caplog):
    rows = [(f"film {'good ' * (i % 8)}{i}", "pos" if i % 3 else "neg") for i in range(60)]
    rows += [("film", ""), ("movie", ""), ("", "pos"), ("a plot", "plot")]
    data = sequence(
        rows, validation=0.25, drop_unlabelled=True, drop_empty=True, drop_labels=["plot"]
    )
    with caplog.at_level(logging.INFO):
        data.read()
    found = data.summary()
    (source,) = found.sources
    assert source.rows == 64
    assert source.format == "csv"
    assert source.columns == {"text": ["text"], "label": ["label"]}
    assert source.left_out == {"data.drop_labels": 1, "empty text": 1, "no label": 2}
    assert {name: split.texts for name, split in found.splits.items()} == {
        "train": 45,
        "validation": 15,
    }
    for name, split in found.splits.items():
        assert split.labels == label_counts(data.rows[name].labels)
        tokens = [len(data.tokenizer(text[0])["input_ids"]) for text in data.rows[name].texts]
        assert split.longest == max(tokens)
        assert split.cut == sum(count > 8 for count in tokens) > 0
        assert split.mean_tokens == pytest.approx(sum(min(c, 8) for c in tokens) / len(tokens))
    assert "own.csv: csv, 64 rows, left out: 1 data.drop_labels, 1 empty text, 2 no" in caplog.text
    assert "label  train  validation\n  pos       30          10" in caplog.text
    numbers = json.loads(json.dumps(found.numbers()))
    assert numbers["splits"]["train"]["labels"] == {"neg": 15, "pos": 30}
    assert numbers["splits"]["train"]["cut_share"] == round(found.splits["train"].cut / 45, 6)


def test_texts_with_different_labels_are_counted_with_an_example(sequence, caplog):
    rows = [(f"film {i}", "pos" if i % 3 else "neg") for i in range(20)]
    rows += [("film 1", "neg"), ("film 2", "pos"), ("film 4", "neg"), ("film 4", "pos")]
    sequence(rows, validation=None).read()
    said = "train: 2 texts occur with different labels, and are kept, such as 'film "
    assert said in caplog.text


def test_of_many_labels_the_most_frequent_are_in_the_table():
    split = SplitSummary(300, 0, {f"n{i:02}": i + 1 for i in range(24)})
    source = Source("a.csv", {"text": ["a", "b"]}, 300, {}, "csv")
    found = DataSummary("own", 64, [source], {"train": split})
    lines = found.text().splitlines()
    assert lines[0] == "  a.csv: csv, 300 rows, left out: none; text: a, b"
    assert lines[-1] == "  and 4 labels more"
    assert lines[-2].split() == ["n04", "5"]
    assert [row[0] for row in found.label_rows()][:2] == ["n23", "n22"]


def test_columns_of_zeros_and_ones_keep_their_order(tiny_bert, tmp_path):
    rows = [(f"film {i}", i % 2, (i + 1) % 2, int(i % 5 == 0)) for i in range(30)]
    path = write_csv(tmp_path / "own.csv", rows, ["text", "war", "drama", "comedy"])
    options = {"tokenizer": tiny_bert, "name": "own", "max_tokens": 16, "train": str(path)}
    data = SequenceData(label=["war", "drama", "comedy"], validation=0.2, **options)
    data.read()
    assert data.labels == ["war", "drama", "comedy"]
    assert data.multi_label
    row = data.encoded["train"][0]
    at = int(data.rows["train"].texts[row["row"]][0].split()[1])
    assert row["labels"] == [float(v) for v in rows[at][1:]]
    with pytest.raises(ThawError, match=r"data\.label=\[\]: expected a column"):
        SequenceData(label=[], **options)


def test_a_label_that_train_has_in_another_form_is_answered_with_the_option(sequence, tmp_path):
    test = write_csv(tmp_path / "test.csv", [("film", "cafe\u0301")], ["text", "label"])
    rows = [(f"film {i}", ("caf\u00e9", "bar")[i % 2]) for i in range(20)]
    with pytest.raises(ThawError, match=r"'cafe\\u0301' \(1\); .*data\.normalize_labels=true"):
        sequence(rows, test=str(test)).read()
    data = sequence(rows, test=str(test), normalize_labels=True)
    data.read()
    assert data.labels == ["bar", "caf\u00e9"]


def test_all_labels_that_train_lacks_are_named_with_their_counts(sequence, tmp_path):
    pairs = [("film", "x"), ("movie", "y"), ("plot", "y")]
    test = write_csv(tmp_path / "test.csv", pairs, ["text", "label"])
    rows = [(f"film {i}", "ab"[i % 2]) for i in range(20)]
    with pytest.raises(ThawError, match=r"'x' \(1\), 'y' \(2\); .*data\.drop_labels=\[x,y\]"):
        sequence(rows, test=str(test)).read()
    data = sequence(rows, test=str(test), drop_labels=["x"])
    with pytest.raises(ThawError, match=r"lacks, with so many rows: 'y' \(2\)"):
        data.read()
