"""Splits and columns of the Hub are found where there is one sensible choice, and named else."""

import pytest
from datasets import ClassLabel, Features, List, Value

from thaw.data.read.hub_choices import choices_on_hub, chosen_columns, chosen_splits
from thaw.errors import ThawError

TEXT, LABEL = Value("string"), ClassLabel(names=["neg", "pos"])
WORDS, TAGS = List(Value("string")), List(ClassLabel(names=["O", "B-PER"]))
SEQUENCE = {"text": "auto", "label": "auto"}
NER = {"text": "auto", "tokens": "auto", "tags": "auto"}
MLM = {"text": "auto", "tokens": "auto"}


@pytest.mark.parametrize(
    ("asked", "columns", "found"),
    [
        (
            SEQUENCE,
            {"sentence": TEXT, "stars": LABEL, "idx": Value("int32")},
            ["sentence", "stars"],
        ),
        (SEQUENCE, {"title": TEXT, "text": TEXT, "label": LABEL}, ["text", "label"]),
        (SEQUENCE, {"text": TEXT, "label": TEXT}, ["text", "label"]),
        (SEQUENCE, {"text": TEXT, "label": LABEL, "topic": LABEL}, ["text", "label"]),
        ({"text": "auto", "label": "stars"}, {"review": TEXT, "stars": LABEL}, ["review"]),
        ({"text": "auto", "label": "kind"}, {"review": TEXT, "kind": TEXT}, ["review"]),
        ({"text": "auto"}, {"text": TEXT, "meta": TEXT}, ["text"]),
        (NER, {"id": TEXT, "tokens": WORDS, "ner_tags": TAGS}, ["text", "tokens", "ner_tags"]),
        (NER, {"words": WORDS, "pos_tags": TAGS, "ner_tags": TAGS}, ["text", "words", "ner_tags"]),
        (NER, {"tokens": WORDS, "tags": WORDS}, ["text", "tokens", "tags"]),
        (MLM, {"review": TEXT, "keywords": WORDS}, ["review", "tokens"]),
        (MLM, {"text": TEXT, "tokens": WORDS}, ["text", "tokens"]),
        (MLM, {"id": TEXT, "words": WORDS, "ner_tags": TAGS}, ["text", "words"]),
    ],
)
def test_columns_with_one_sensible_choice_are_found(asked, columns, found):
    chosen = chosen_columns("acme/a", asked, Features(columns))
    wanted = [key for key, value in asked.items() if value == "auto"]
    assert [chosen[key] for key in wanted] == found


@pytest.mark.parametrize(
    ("asked", "columns", "said"),
    [
        (
            SEQUENCE,
            {"premise": TEXT, "hypothesis": TEXT, "label": LABEL},
            "premise and hypothesis could be data.text. It has the columns premise (text), "
            "hypothesis (text), label (labels). Type data.text=<column>, or "
            "data.text=[premise,hypothesis] for pairs.",
        ),
        (
            SEQUENCE,
            {"text": TEXT, "score": Value("float32")},
            "no column is data.label. It has the columns text (text), score (float32). "
            "Type data.label=<column>.",
        ),
        (
            NER,
            {"tokens": WORDS, "chunks": TAGS, "parts": TAGS},
            "chunks and parts could be data.tags",
        ),
        (NER, {"text": TEXT}, "no column is data.tokens"),
    ],
)
def test_other_columns_are_listed_with_what_to_type(asked, columns, said):
    with pytest.raises(ThawError) as error:
        chosen_columns("acme/a", asked, Features(columns))
    assert f"data.path=acme/a: {said}" in str(error.value)


def test_splits_are_found_by_their_names():
    assert chosen_splits("acme/a", ["train", "dev", "test"]) == {
        "train": "train",
        "validation": "dev",
        "test": "test",
    }
    assert chosen_splits("acme/a", ["all"]) == {"train": "all", "validation": 0.1, "test": None}
    with pytest.raises(ThawError, match=r"has no split train; it has en, de\. Type data\.train="):
        chosen_splits("acme/a", ["en", "de"])


def test_a_data_set_must_be_named():
    with pytest.raises(ThawError, match=r"data=hub needs data\.path=owner/name"):
        choices_on_hub({"path": "owner/name", "text": "auto"})
    assert choices_on_hub({"path": "acme/a", "text": "text"}) == {}


def test_a_column_of_a_file_may_be_called_auto(tmp_path):
    for path in (None, str(tmp_path), {"wheels": {}, "member": "a.csv"}):
        assert choices_on_hub({"path": path, "label": "auto"}) == {}
