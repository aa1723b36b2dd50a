"""A few texts of each label, and what to do where there are fewer."""

import pytest

from helpers.tiny import write_csv
from thaw.data.read.sampling.few_shots import draw
from thaw.data.read.texts import Texts
from thaw.data.sequence import SequenceData
from thaw.errors import ThawError


@pytest.fixture
def few(tiny_bert, tmp_path):
    """Data of 8 texts of each of 3 labels."""
    labels = ("billing", "shipping", "technical")
    texts = [(f"{label} problem {i}", label) for i in range(8) for label in labels]
    path = write_csv(tmp_path / "few.csv", texts, ["text", "label"])

    def make(**options):
        return SequenceData(
            name="few", tokenizer=tiny_bert, train=str(path), max_tokens=16, **options
        )

    return make


def test_too_few_texts_of_every_label_tells_what_validation_took_and_drops_none(few):
    with pytest.raises(ThawError, match="validation took 6 of the rows") as caught:
        few(validation=0.25, shots=16).read()
    assert "data.validation=null task.shots=8 trains on these too" in str(caught.value)
    assert "drop_labels" not in str(caught.value)
    data = few(validation=None, shots=8)
    data.read()
    assert len(data.rows["train"]) == 24


def test_labels_are_proposed_to_be_left_out_where_two_stay():
    texts = Texts([(str(i),) for i in range(9)], list("aaaabbbbc"), origin="a.csv")
    with pytest.raises(ThawError, match=r"fewer of 'c' \(1\)\. Try .*data\.drop_labels=\[c\]"):
        draw(texts, 4, seed=0)


def test_a_number_of_texts_is_drawn_from_train_alone_with_the_seed(few, caplog):
    caplog.set_level("INFO")

    def texts(**options):
        return {s: r.texts for s, r in few(validation=0.25, **options).read_splits().items()}

    whole, drawn, again = texts(), texts(train_size=6, seed=1), texts(train_size=6, seed=1)
    assert drawn == again
    assert drawn["validation"] == whole["validation"]
    assert len(drawn["train"]) == 6
    assert set(drawn["train"]) < set(whole["train"])
    assert drawn["train"] != texts(train_size=6, seed=2)["train"]
    assert "train: 6 of 18 texts, drawn with the seed" in caplog.text
    with pytest.raises(ThawError, match=r"data\.train_size=19: train has 18 texts\. null trains"):
        texts(train_size=19)
