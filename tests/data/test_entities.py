"""Entities of tags, against seqeval."""

import random
import warnings

import pytest
import torch
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as default_scores
from seqeval.metrics.v1 import precision_recall_fscore_support as strict_scores
from seqeval.scheme import IOB2

from thaw.data.entities import Difference, Entity, compare, entities
from thaw.tasks.metrics.entities import EntityF1


def random_tags(rng, types, length):
    """Tags drawn one by one, so that most sequences are malformed."""
    tags = ["O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in types)]
    return [rng.choice(tags) for _ in range(length)]


def random_pair(seed):
    """Gold and predicted tags of a few sentences; half of the predictions are right."""
    rng = random.Random(seed)
    types = ["PER", "LOC", "geo-loc"][: rng.randint(1, 3)]
    gold = [random_tags(rng, types, rng.randint(1, 12)) for _ in range(rng.randint(1, 5))]
    predicted = [
        [t if rng.random() < 0.5 else rng.choice(random_tags(rng, types, 3)) for t in sentence]
        for sentence in gold
    ]
    return types, gold, predicted


def seqevals(gold, predicted, strict, average):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of types that are in one of the two only
        if strict:
            return strict_scores(
                gold, predicted, average=average, mode="strict", scheme=IOB2, zero_division=0
            )
        return default_scores(gold, predicted, average=average, zero_division=0)


@pytest.mark.parametrize("strict", [False, True])
def test_scores_equal_seqevals_to_the_last_digit_on_random_tags(strict):
    for seed in range(2000):
        types, gold, predicted = random_pair(seed)
        metric = EntityF1(types, strict)
        metric.update(predicted, gold)
        got = metric.compute()
        expected = seqevals(gold, predicted, strict, "micro")
        assert [float(got[k]) for k in ("precision", "recall", "f1")] == list(expected[:3]), seed
        # seqeval lists the types that it finds, in the order of the alphabet.
        seen = {e.type for tags in gold + predicted for e in entities(tags, strict)}
        ours = [list(types).index(name) for name in sorted(seen)]
        theirs = seqevals(gold, predicted, strict, None)
        for name, values in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
            assert [got["per_type"][name][i] for i in ours] == values.tolist(), (seed, name)


def test_batches_add_up():
    types, gold, predicted = random_pair(1)
    whole, parts = EntityF1(types), EntityF1(types)
    whole.update(predicted, gold)
    for ours, true in zip(predicted, gold, strict=True):
        parts.update([ours], [true])
    assert torch.equal(whole.counts, parts.counts)


def test_a_token_in_a_list_of_its_own_gives_another_number():
    """The common recipe that counts tokens instead of entities (facts: seqeval's traps)."""
    gold = ["B-PER", "I-PER", "O", "B-LOC"]
    predicted = ["B-PER", "O", "O", "B-LOC"]
    whole, wrapped = EntityF1(["PER", "LOC"]), EntityF1(["PER", "LOC"])
    whole.update([predicted], [gold])
    wrapped.update([[tag] for tag in predicted], [[tag] for tag in gold])
    assert float(whole.compute()["f1"]) == 0.5
    assert float(wrapped.compute()["f1"]) == pytest.approx(0.8)
    report = classification_report([gold], [predicted], output_dict=True)
    assert float(whole.compute()["f1"]) == report["micro avg"]["f1-score"]


def test_without_entities_scores_are_0():
    metric = EntityF1(["PER"])
    metric.update([["O", "O"]], [["O", "O"]])
    got = metric.compute()
    assert [float(got[k]) for k in ("f1", "precision", "recall")] == [0, 0, 0]


def test_tags_of_another_length_are_refused():
    with pytest.raises(ValueError, match="1 predicted tags for 2 words"):
        EntityF1(["PER"]).update([["O"]], [["O", "O"]])


@pytest.mark.parametrize(
    ("tags", "default", "strict"),
    [
        ("O B-PER I-PER O", [("PER", 1, 3)], [("PER", 1, 3)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)], [("PER", 0, 1), ("PER", 1, 2)]),
        ("I-PER I-PER", [("PER", 0, 2)], []),
        ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)], [("PER", 0, 1)]),
        ("B-geo-loc I-geo-loc", [("geo-loc", 0, 2)], [("geo-loc", 0, 2)]),
        ("", [], []),
    ],
)
def test_entities_of_tags(tags, default, strict):
    assert entities(tags.split()) == default
    assert entities(tags.split(), strict=True) == strict
    assert [(k, a, b + 1) for k, a, b in get_entities(tags.split())] == default


def test_differences_are_named_and_each_entity_is_in_one():
    gold = [Entity("PER", 0, 2), Entity("LOC", 3, 4), Entity("ORG", 5, 7), Entity("PER", 8, 9)]
    predicted = [
        Entity("PER", 0, 2),
        Entity("ORG", 3, 4),
        Entity("ORG", 6, 7),
        Entity("LOC", 10, 11),
    ]
    assert compare(gold, predicted) == [
        Difference("right", gold[0], predicted[0]),
        Difference("wrong type", gold[1], predicted[1]),
        Difference("wrong boundary", gold[2], predicted[2]),
        Difference("missed", gold[3], None),
        Difference("spurious", None, predicted[3]),
    ]


def test_a_predicted_entity_explains_one_gold_entity_only():
    gold = [Entity("PER", 0, 1), Entity("PER", 1, 2)]
    kinds = [d.kind for d in compare(gold, [Entity("PER", 0, 2)])]
    assert kinds == ["wrong boundary", "missed"]
