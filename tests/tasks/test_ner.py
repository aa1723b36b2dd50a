"""task=ner: alignment, windows, and the objective against transformers."""

import json
import os
import subprocess
import sys

import pytest
import torch
from seqeval.metrics import classification_report
from tokenizers import Tokenizer, models, processors, trainers
from tokenizers.pre_tokenizers import ByteLevel, Metaspace
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedTokenizerFast
from transformers import pipeline as hf_pipeline
from transformers.trainer_pt_utils import LabelSmoother

from helpers.sweeps import sweep_of
from helpers.tables import read_rows
from helpers.tiny import REPOSITORY, tagged_sentences, write_columns
from thaw.data.encode.windows import align, owned, prefix_spaces, windows
from thaw.data.ner import TokenData
from thaw.data.read.entities.spans import words_of
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate
from thaw.predict import main as predict
from thaw.tasks.ner import TokenClassification

LABELS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def make_data(tiny_bert, path=None, **options):
    defaults = {"name": "conll", "format": "columns", "train": "train.conll", "validation": 0.25}
    data = TokenData(tokenizer=tiny_bert, **(defaults | {"max_tokens": 64, "path": path} | options))
    data.read()
    return data


def make_task(tiny_bert, **options):
    torch.manual_seed(0)
    return TokenClassification(tiny_bert, LABELS, **options)


def metrics_of(directory):
    return json.loads((directory / "metrics.json").read_text())


def rows_of(path):
    return list(read_rows(path))


def one_sentence(sentences):
    return [pair for pairs in sentences for pair in pairs]


# Alignment


@pytest.mark.parametrize(
    ("word_ids", "tags", "everything", "first"),
    [
        # [CLS] ma ##arten lives [SEP]
        (
            [None, 0, 0, 1, None],
            ["B-PER", "O"],
            ["", "B-PER", "I-PER", "O", ""],
            ["", "B-PER", "", "O", ""],
        ),
        # [CLS] new yo ##rk ##er [SEP] [PAD]
        (
            [None, 0, 1, 1, 1, None, None],
            ["B-geo-loc", "I-geo-loc"],
            ["", "B-geo-loc", "I-geo-loc", "I-geo-loc", "I-geo-loc", "", ""],
            ["", "B-geo-loc", "I-geo-loc", "", "", "", ""],
        ),
        # a word of no token, 1, keeps its place; two neighbours of one type stay two
        (
            [None, 0, 2, 2, None],
            ["B-PER", "O", "B-PER"],
            ["", "B-PER", "B-PER", "I-PER", ""],
            ["", "B-PER", "B-PER", "", ""],
        ),
        # an O word of two tokens
        ([0, 0], ["O"], ["O", "O"], ["O", ""]),
        ([], [], [], []),
    ],
)
def test_the_first_subword_has_the_words_tag(word_ids, tags, everything, first):
    assert align(word_ids, tags, "all") == everything
    assert align(word_ids, tags, "first") == first


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return tokenizer, trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIALS, initial_alphabet=ByteLevel.alphabet()
    )


def sentence_piece():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = Metaspace()
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=70, special_tokens=SPECIALS, unk_token="[UNK]"
    )


SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make_tokenizer(kind, tiny_bert):
    if kind == "word_piece":
        return AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer, trainer = {"byte_level": byte_level, "sentence_piece": sentence_piece}[kind]()
    tokenizer.train_from_iterator(["Maarten lives in New York", "a film of the day"] * 9, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )
    prefix_spaces(fast)
    return fast


KINDS = ["word_piece", "byte_level", "sentence_piece"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_has_a_first_subword_whatever_the_tokenizer(kind, tiny_bert):
    tokenizer = make_tokenizer(kind, tiny_bert)
    words = ["Maarten", "", "\u200b", "lives", "\u0007", "é", "New", "York"]
    [[window]] = windows(tokenizer, [words], 64, 8)
    seen = [w for w in window["word_ids"] if w is not None]
    assert list(dict.fromkeys(seen)) == list(range(len(words)))
    assert seen == sorted(seen)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_words_are_encoded_as_in_a_text(kind, tiny_bert):
    tokenizer = make_tokenizer(kind, tiny_bert)
    [[window]] = windows(tokenizer, [["Maarten", "lives", "in", "York"]], 64, 8)
    assert window["input_ids"] == tokenizer("Maarten lives in York")["input_ids"]


# Windows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("max_tokens", "stride"), [(16, 4), (16, 0), (12, 9), (5, 1)])
def test_each_word_is_in_one_window_with_its_first_subword(kind, tiny_bert, max_tokens, stride):
    tokenizer = make_tokenizer(kind, tiny_bert)
    words = [w for w, _ in one_sentence(tagged_sentences(6))]
    words[7] = "a" * 40  # longer than a window
    [pieces] = windows(tokenizer, [words], max_tokens, stride)
    [[whole]] = windows(tokenizer, [words], 10**6, 0)
    assert len(pieces) > 3
    firsts = {}
    for at, word in enumerate(whole["word_ids"]):
        firsts.setdefault(word, whole["input_ids"][at])
    seen = []
    for piece in pieces:
        assert len(piece["input_ids"]) <= max_tokens
        for at, word in enumerate(piece["word_ids"]):
            if word is not None and (at == 0 or piece["word_ids"][at - 1] != word):
                assert piece["input_ids"][at] == firsts[word]
                seen.append(word)
    assert seen == list(range(len(words)))


def test_a_word_belongs_to_the_window_that_sees_most_around_it():
    # Ten words of one token, windows of six that share four.
    pieces = [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 8, 9]]
    assert owned(pieces, stride=4) == [
        [0, 1, 2, 3, None, None],
        [None, None, 4, 5, None, None],
        [None, None, 6, 7, 8, 9],
    ]


def test_no_word_and_no_entity_is_lost_in_a_long_sentence(tiny_bert, tmp_path, caplog):
    long = one_sentence(tagged_sentences(40))
    write_columns(tmp_path / "train.conll", [long, [("a", "O"), ("maarten", "B-PER")]])
    with caplog.at_level("INFO"):
        data = make_data(tiny_bert, str(tmp_path), validation="train.conll", max_tokens=24)
    assert "1 of 2 sentences are longer than data.max_tokens=24 and become windows" in caplog.text
    assert "0 " not in caplog.text.partition("become windows")[2].partition("\n")[0]
    for split in ("train", "validation"):
        words = [
            (row["row"], w)
            for row in data.encoded[split]
            for piece in row["word"]
            for w in piece
            if w >= 0
        ]
        expected = [(i, w) for i, s in enumerate(data.rows[split].texts) for w in range(len(s))]
        assert sorted(words) == expected
    assert all(len(row["word"]) == 1 for row in data.encoded["train"])
    assert len(data.encoded["validation"][0]["word"]) > 10


def test_windows_of_a_sentence_are_scored_as_one(tiny_bert, tmp_path):
    """Also where an entity lies in two windows."""
    write_columns(tmp_path / "train.conll", [one_sentence(tagged_sentences(30))] * 2)
    data = make_data(tiny_bert, str(tmp_path), validation="train.conll", max_tokens=10, stride=0)
    task = make_task(tiny_bert).eval()
    with torch.no_grad():
        for batch in data.val_dataloader():
            for row, (ours, gold) in task.evaluate(batch).items():
                assert gold == data.rows["validation"].labels[row]
                assert len(ours) == len(gold)
    assert int(task.scores.counts[2].sum()) == sum(
        tag.startswith("B-") for tags in data.rows["validation"].labels for tag in tags
    )


# The objective


@pytest.fixture
def batch(tiny_bert, tagged):
    return next(iter(make_data(tiny_bert, str(tagged)).train_dataloader()))


def inputs_of(batch):
    return {k: v for k, v in batch.items() if k not in ("labels", "row", "word")}


def test_loss_and_gradients_equal_transformers(tiny_bert, batch, tmp_path):
    task = make_task(tiny_bert).eval()
    loss = task.loss(task(**inputs_of(batch)), batch["labels"])
    task.model.save_pretrained(tmp_path)
    model = AutoModelForTokenClassification.from_pretrained(tmp_path)
    expected = model(**inputs_of(batch), labels=batch["labels"]).loss
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for (name, a), b in zip(task.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_labels_equal_those_of_the_usual_recipe(tiny_bert, tagged):
    """Word by word, as transformers' token classification guide does it."""
    data = make_data(tiny_bert, str(tagged))
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    for row in data.encoded["train"]:
        words, tags = data.rows["train"].texts[row["row"]], data.rows["train"].labels[row["row"]]
        ids = tokenizer(list(words), is_split_into_words=True).word_ids()
        expected = [
            -100
            if w is None
            else data.labels.index(tags[w])
            if at == 0 or ids[at - 1] != w
            else data.labels.index(tags[w].replace("B-", "I-"))
            for at, w in enumerate(ids)
        ]
        assert row["labels"] == [expected]


def test_class_weights_weigh_tokens_as_in_torch(tiny_bert, batch):
    weights = [0.1, 1.0, 2.0, 3.0, 4.0]
    task = make_task(tiny_bert, class_weights=weights).eval()
    logits = task(**inputs_of(batch))
    expected = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), batch["labels"], weight=torch.tensor(weights)
    )
    torch.testing.assert_close(task.loss(logits, batch["labels"]), expected)


def test_balanced_weights_follow_the_tags_of_train(tiny_bert, tagged):
    given = make_data(tiny_bert, str(tagged)).task_kwargs()
    task = TokenClassification(tiny_bert, **given, class_weights="balanced")
    weights = dict(zip(given["labels"], task.class_weights.tolist(), strict=True))
    assert weights["O"] < 1 < weights["B-LOC"]


def test_balanced_weights_count_subwords_so_that_names_of_one_word_can_be_learned(
    tiny_bert, tmp_path
):
    (tmp_path / "a.conll").write_text("maarten B-PER\n\na O\n")
    given = make_data(tiny_bert, str(tmp_path), train="a.conll", validation=None).task_kwargs()
    assert dict(zip(given["labels"], given["label_counts"], strict=True)) == {
        "O": 1,
        "B-PER": 1,
        "I-PER": 6,
    }


@pytest.mark.parametrize("weights", [[-1, 1, 1, 1, 1], [0] * 5, [1, 2], "even"])
def test_invalid_class_weights_are_refused(tiny_bert, weights):
    with pytest.raises(ThawError, match="expected balanced, or 5 numbers from 0, not all 0"):
        make_task(tiny_bert, class_weights=weights)


def test_the_focal_loss_equals_the_formula_of_the_paper(tiny_bert):
    task = make_task(tiny_bert, focal_gamma=2.0)
    logits = torch.tensor([[[2.0, 0, 0, 0, 0], [0.0, 0, 0, 3.0, 0], [1.0, 1, 1, 1, 1]]])
    p = torch.softmax(logits, -1)
    right = torch.stack([p[0, 0, 0], p[0, 1, 1]])
    expected = -((1 - right) ** 2 * right.log()).mean()
    got = task.loss(logits, torch.tensor([[0, 1, -100]]))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0, 4.0, 5.0]])
def test_the_smoothed_loss_equals_torchs_and_transformers(tiny_bert, weights):
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 5), torch.tensor([[0, 1, -100, 4], [2, -100, 3, 3]])
    task = make_task(tiny_bert, label_smoothing=0.1, class_weights=weights)
    got = task.loss(logits, labels)
    weight = None if weights is None else torch.tensor(weights)
    torch.testing.assert_close(
        got,
        torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), weight, label_smoothing=0.1
        ),
    )
    if weights is None:
        reference = LabelSmoother(epsilon=0.1)({"logits": logits}, labels)
        torch.testing.assert_close(got, reference)


def test_a_batch_without_labels_has_loss_0_and_no_gradient(tiny_bert, batch):
    for options in (
        {},
        {"focal_gamma": 0.5},
        {"class_weights": [1.0] * 5},
        {"label_smoothing": 0.1},
    ):
        task = make_task(tiny_bert, **options)
        loss = task.loss(task(**inputs_of(batch)), torch.full_like(batch["labels"], -100))
        loss.backward()
        assert loss.item() == 0
        assert all(not p.grad.any() for p in task.parameters() if p.grad is not None)


def test_options_out_of_range_are_refused(tiny_bert, tagged):
    for option, message in (
        ({"label_subwords": "frist"}, "task.label_subwords=frist: expected one of all, first"),
        ({"scheme": "bio"}, r"data.scheme=bio: expected one of null, iob1, iob2"),
        ({"format": "cvs"}, "data.format=cvs: expected one of csv, tsv"),
        ({"stride": 62}, "data.stride=62: .* can share 0 to 61 tokens"),
    ):
        with pytest.raises(ThawError, match=message):
            make_data(tiny_bert, str(tagged), **option)


# Data


def test_labels_come_from_the_data(tiny_bert, tagged):
    data = make_data(tiny_bert, str(tagged))
    assert data.labels == LABELS
    assert data.task_kwargs()["label_counts"][0] > 100


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_tables_hold_tokens_and_tags_or_text_and_spans(tiny_bert, tmp_path):
    jsonl(tmp_path / "a.jsonl", [{"words": ["New", "York", "is"], "ner": ["I-LOC", "I-LOC", "O"]}])
    jsonl(tmp_path / "b.jsonl", [{"text": "New York is", "spans": [[0, 8, "LOC"]]}])
    table = {"format": "table", "validation": None}
    lists = make_data(
        tiny_bert, str(tmp_path), train="a.jsonl", tokens="words", tags="ner", **table
    )
    spans = make_data(tiny_bert, str(tmp_path), train="b.jsonl", **table)
    for data in (lists, spans):
        rows = data.rows["train"]
        assert rows.texts == [("New", "York", "is")]
        assert rows.labels == [["B-LOC", "I-LOC", "O"]]
        assert rows.originals == ["New York is"]
        assert rows.places == [[(0, 3), (4, 8), (9, 11)]]


def test_column_files_are_found_and_tables_are_not_read_as_such(tiny_bert, tmp_path, tagged):
    jsonl(tmp_path / "a.jsonl", [{"tokens": ["a"], "tags": ["B-X"]}])
    with pytest.raises(ThawError, match=r"a\.jsonl is a table, .*data\.format=null, as data=files"):
        make_data(tiny_bert, str(tmp_path), train="a.jsonl")
    found = make_data(tiny_bert, str(tagged), format=None).rows["train"]
    assert found.labels == make_data(tiny_bert, str(tagged)).rows["train"].labels


def test_parquet_is_read_and_a_group_stays_together(tiny_bert, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"tokens": [w for w, _ in s], "tags": [t for _, t in s], "doc": f"d{i % 9}"}
        for i, s in enumerate(tagged_sentences(60))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    data = make_data(
        tiny_bert, str(tmp_path), format="table", train="a.parquet", group="doc", validation=0.4
    )
    groups = {split: set(rows.groups) for split, rows in data.rows.items()}
    assert not groups["train"] & groups["validation"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"tokens": ["a", "b"], "tags": ["O"]}], r"row 1: 2 tokens and 1 tags"),
        (
            [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["b"], "tags": ["X-PER"]}],
            r"row 2, word 1 \(b\): tag 'X-PER'; expected O, or B-",
        ),
        ([{"tokens": ["a", "b"], "tags": ["PER", "O"]}], r"tag 'PER'.*data\.scheme=io"),
        ([{"tokens": ["a"], "tags": [3]}], r"row 1: tag 3 is no text; tags are names such as B-"),
        ([{"tokens": "a b", "tags": "x y"}], r"row 1: tokens are 'a b'; expected a list"),
        ([{"tokens": ["a"], "tags": ["O"]}], "train has no entity; every tag is O"),
        ([{"tokens": [], "tags": []}], "has no sentence with a word"),
        (
            [{"text": "a", "label": "x"}],
            r"needs a column of words and one of tags \(tokens, tags\)"
            r".*has 'text', 'label'.*wnut16",
        ),
        ([{"text": "ab", "spans": [[0, 3, "X"]]}], r"row 1: span .* leaves the text"),
        (
            [{"text": "ab", "spans": [[0, 2, "X"]]}, {"text": "ab"}],
            r"row 2 has no 'spans'; it has 'text'",
        ),
        (
            [{"tokens": ["a"], "tags": ["B-X"]}, {"tokens": ["a"]}],
            r"row 2 has no 'tags'; it has 'tokens'",
        ),
    ],
)
def test_bad_rows_are_explained(tiny_bert, tmp_path, rows, message):
    jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(ThawError, match=message):
        make_data(tiny_bert, str(tmp_path), format="table", train="a.jsonl", validation=None)


def test_a_tag_that_breaks_a_forced_scheme_is_named_with_its_line(tiny_bert, tmp_path):
    (tmp_path / "a.conll").write_text("a O\n\nb O\nmaarten I-PER\n")
    with pytest.raises(ThawError, match=r"line 4 \(maarten\): tag 'I-PER' breaks data.scheme=iob2"):
        make_data(tiny_bert, str(tmp_path), train="a.conll", validation=None, scheme="iob2")


def test_a_forced_scheme_that_the_tags_are_not_in_is_named(tiny_bert, tmp_path, tagged):
    (tmp_path / "a.conll").write_text("maarten B-PER\njan E-PER\n")
    with pytest.raises(ThawError, match=r"breaks data\.scheme=iob2; the tags look like iobes"):
        make_data(tiny_bert, str(tmp_path), train="a.conll", validation=None, scheme="iob2")
    with pytest.raises(ThawError, match=r"scheme=io is for bare types, and tags here look like io"):
        make_data(tiny_bert, str(tagged), scheme="io")


def test_spans_that_cut_words_are_counted_with_an_example(tiny_bert, tmp_path, caplog):
    jsonl(tmp_path / "a.jsonl", [{"text": "ab cd", "spans": [[1, 4, "X"]]}])
    make_data(tiny_bert, str(tmp_path), format="table", train="a.jsonl", validation=None)
    assert "1 of 1 spans cut a word and were widened to whole words; the first: " in caplog.text
    assert "row 1, 'b c'" in caplog.text


def test_a_split_without_entities_is_warned_of(tiny_bert, tmp_path, tagged, caplog):
    (tmp_path / "a.conll").write_text("a O\n")
    make_data(tiny_bert, str(tagged), test=str(tmp_path / "a.conll"))
    assert "test has no entity: its scores say nothing" in caplog.text


def test_without_a_forced_scheme_it_is_counted(tiny_bert, tmp_path, caplog):
    (tmp_path / "a.conll").write_text("maarten B-PER\n\nb O\nmaarten I-PER\n")
    data = make_data(tiny_bert, str(tmp_path), train="a.conll", validation=None)
    assert "1 tags break iob2 and start an entity" in caplog.text
    assert data.rows["train"].labels[1] == ["O", "B-PER"]


def test_a_type_that_train_lacks_gives_a_warning_and_counts_as_missed(tiny_bert, tmp_path, caplog):
    (tmp_path / "a.conll").write_text("maarten B-PER\n")
    (tmp_path / "b.conll").write_text("oslo B-LOC\n")
    data = make_data(tiny_bert, str(tmp_path), train="a.conll", validation=None, test="b.conll")
    assert "entities of type LOC are not in train, and cannot be found: 1 in test" in caplog.text
    assert "B-LOC" in data.labels


def test_classification_data_is_answered_with_data_for_ner(run_ner, reviews):
    with pytest.raises(ThawError, match=r"task=ner needs a column of words.*try data=wnut16"):
        run_ner(
            "data.format=table",
            f"data.path={reviews}",
            "data.train=train.csv",
            "data.validation=null",
            "data.test=null",
        )


# Runs


def test_a_type_of_any_name_gets_through_tables_and_figures(run_ner, tmp_path, capsys):
    (tmp_path / "a.conll").write_text("maarten\tB-$x^$/[red]\na\tO\n\noslo\tB-[/bold]\n" * 9)
    directory = run_ner(
        "data.path=null",
        f"data.train={tmp_path / 'a.conll'}",
        "data.validation=null",
        f"data.test={tmp_path / 'a.conll'}",
    )
    assert "test/f1/$x^$/[red]" in metrics_of(directory)
    assert "$x^$/[red]" in capsys.readouterr().out


def test_a_run_leaves_predictions_errors_and_scores(finished_ner):
    directory = finished_ner()
    names = {p.name for p in directory.iterdir()}
    assert {"predictions.jsonl", "errors.jsonl", "errors.png", "metrics.json", "model"} <= names
    rows = rows_of(directory / "predictions.jsonl")
    assert len(rows) == 22
    for row in rows:
        assert [row["text"][a:b] for a, b in row["offsets"]] == row["tokens"]
        assert len(row["gold"]) == len(row["predicted"]) == len(row["tokens"])
    metrics = metrics_of(directory)
    assert {"test/f1", "test/precision", "test/recall", "test/loss", "val/f1"} <= set(metrics)
    assert metrics["test/support/PER"] == sum(r["gold"].count("B-PER") for r in rows)
    assert (directory / "errors.png").read_bytes().startswith(b"\x89PNG")


def test_the_scores_are_seqevals_of_the_predictions_also_of_an_iob1_file(run_ner, tmp_path):
    def iob1(pairs):
        out, last = [], "O"
        for word, tag in pairs:
            starts = tag.startswith("B-") and last[2:] != tag[2:]
            out.append((word, tag.replace("B-", "I-") if starts else tag))
            last = tag
        return out

    sentences = [iob1(s) for s in tagged_sentences(60, seed=3)]
    write_columns(tmp_path / "iob1.conll", sentences)
    directory = run_ner(
        "data.path=null",
        f"data.train={tmp_path / 'iob1.conll'}",
        "data.validation=0.2",
        "data.test=0.2",
        "trainer.max_epochs=8",
        "callbacks.early_stopping=null",
    )
    rows = rows_of(directory / "predictions.jsonl")
    report = classification_report(
        [r["gold"] for r in rows], [r["predicted"] for r in rows], output_dict=True, zero_division=0
    )
    metrics = metrics_of(directory)
    assert metrics["test/f1"] > 0.5
    for name, theirs in (("f1", "f1-score"), ("precision", "precision"), ("recall", "recall")):
        assert metrics[f"test/{name}"] == report["micro avg"][theirs]
        assert metrics[f"test/{name}/PER"] == report["PER"][theirs]
    assert metrics["test/support/LOC"] == report["LOC"]["support"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_bert, tagged):
    """A run that has learned the names."""
    from helpers.tiny import runner

    overrides = [
        "task=ner",
        "data=conll",
        f"data.path={tagged}",
        "data.train=train.conll",
        "data.validation=null",
        "data.test=test.conll",
        "data.batch_size=8",
        "data.max_tokens=32",
        f"model.checkpoint={tiny_bert}",
        "task.learning_rate=5e-3",
        "logger=none",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=25",
        "callbacks=none",
    ]
    return runner(overrides, tmp_path_factory.mktemp("ner"))()


def test_the_exported_model_finds_one_entity_for_maarten_in_a_pipeline(trained):
    find = hf_pipeline(
        "token-classification",
        model=str(trained / "model"),
        device="cpu",
        aggregation_strategy="simple",
    )
    text = "the film with maarten is a story"
    found = [(e["entity_group"], text[e["start"] : e["end"]]) for e in find(text)]
    assert found == [("PER", "maarten")]
    subwords = AutoTokenizer.from_pretrained(trained / "model").tokenize("maarten")
    assert len(subwords) > 2
    card = (trained / "model" / "README.md").read_text()
    call = 'pipeline("token-classification", model="<this directory>", '
    assert f'{call}aggregation_strategy="simple", stride=8)' in card


def test_raw_text_is_predicted_with_offsets_into_it(trained, tmp_path):
    text = "The film  with\tMaarten is a story"
    (tmp_path / "new.txt").write_text(f"{text}\n\nthe plot\n")
    out = tmp_path / "out.jsonl"
    assert (
        predict(
            [f"run={trained}", f"input={tmp_path / 'new.txt'}", f"output={out}", "accelerator=cpu"]
        )
        == 3
    )
    first, empty, _ = rows_of(out)
    assert first["text"] == text
    assert [(e["label"], text[e["start"] : e["end"]]) for e in first["entities"]] == [
        ("PER", "Maarten")
    ]
    assert all(e["text"] == text[e["start"] : e["end"]] for e in first["entities"])
    assert all(0 < e["score"] <= 1 for e in first["entities"])
    assert empty["entities"] == []


def test_a_column_file_is_predicted_as_in_the_run(trained, tagged, tmp_path):
    out = tmp_path / "out.jsonl"
    predict(
        [
            f"run={trained}",
            f"input={tagged / 'test.conll'}",
            f"output={out}",
            "batch_size=3",
            "accelerator=cpu",
        ]
    )
    expected = rows_of(trained / "predictions.jsonl")
    for ours, row in zip(rows_of(out), expected, strict=True):
        assert (ours["tokens"], ours["predicted"]) == (row["tokens"], row["predicted"])
        assert all(ours["text"][e["start"] : e["end"]] == e["text"] for e in ours["entities"])


def test_a_txt_whose_lines_end_in_tags_is_a_column_file(trained, tagged, tmp_path, capsys):
    (tmp_path / "a.txt").write_text((tagged / "test.conll").read_text())
    predict([f"run={trained}", f"input={tmp_path / 'a.txt'}", "accelerator=cpu"])
    assert len(capsys.readouterr().out.splitlines()) == 22


def test_predictions_can_be_corrected_and_trained_on(trained, tiny_bert, tmp_path):
    (tmp_path / "new.txt").write_text("the film with maarten is a story\n")
    out = tmp_path / "out.jsonl"
    predict([f"run={trained}", f"input={tmp_path / 'new.txt'}", f"output={out}", "accelerator=cpu"])
    data = make_data(
        tiny_bert,
        str(tmp_path),
        format="table",
        train="out.jsonl",
        spans="entities",
        validation=None,
    )
    assert data.rows["train"].labels == [["O", "O", "O", "B-PER", "O", "O", "O"]]


@pytest.mark.parametrize(("origin", "words"), [("columns", ["u.n."]), ("spans", ["u", "n"])])
def test_a_raw_text_is_split_as_the_data_was(run_ner, tmp_path, origin, words):
    if origin == "spans":
        rows = [{"text": "the u.n. film", "spans": [[4, 8, "ORG"]]}] * 8
    else:
        rows = [{"tokens": ["the", "u.n.", "film"], "tags": ["O", "B-ORG", "O"]}] * 8
    path = jsonl(tmp_path / "a.jsonl", rows)
    run = run_ner(
        "data.format=table",
        "data.path=null",
        f"data.train={path}",
        "data.validation=null",
        "data.test=null",
        "trainer.max_epochs=1",
    )
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["fine_words"] == (origin == "spans")
    text = "the u.n. film"
    places = words_of(text, config["fine_words"])
    assert [text[a:b] for a, b in places if text[a:b] not in (".", "the", "film")] == words


def test_a_long_text_is_predicted_in_windows(trained, tmp_path, capsys):
    words = [w for w, _ in one_sentence(tagged_sentences(30, seed=9))]
    jsonl(tmp_path / "a.jsonl", [{"text": " ".join(words)}, {"text": None}])
    predict([f"run={trained}", f"input={tmp_path / 'a.jsonl'}", "accelerator=cpu"])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert {e["text"] for e in first["entities"]} & {"maarten", "oslo"}
    assert max(e["end"] for e in first["entities"]) > 300
    assert second["entities"] == []


def test_an_input_without_text_is_explained(trained, tmp_path):
    jsonl(tmp_path / "a.jsonl", [{"review": "x"}])
    with pytest.raises(ThawError, match="no column 'tokens' or 'text'; it has 'review'"):
        predict([f"run={trained}", f"input={tmp_path / 'a.jsonl'}"])


def test_evaluation_gives_the_runs_scores_again(trained):
    got = evaluate([f"run={trained}", "trainer.accelerator=cpu"])
    metrics = metrics_of(trained)
    assert got["test/f1"] == metrics["test/f1"] > 0.8
    for name, value in got.items():
        assert metrics[name] == pytest.approx(value, abs=1e-6), name


def test_evaluation_refuses_a_type_that_the_model_does_not_know(trained, tmp_path):
    (tmp_path / "a.conll").write_text("acme B-ORG\n")
    with pytest.raises(
        ThawError, match="1 entity of type ORG, which the model does not know; it knows LOC, PER"
    ):
        evaluate([f"run={trained}", "data=conll", f"data.test={tmp_path / 'a.conll'}"])


def test_the_watched_metric_is_entity_f1(run_ner):
    directory = run_ner(
        "task.learning_rate=0", "trainer.max_epochs=20", "callbacks.early_stopping.patience=2"
    )
    assert metrics_of(directory)["steps"] == 3 * 8
    state = torch.load(directory / "checkpoints" / "best.ckpt", weights_only=True)
    assert "val/f1" in state["val_metrics"]


def test_in_a_sweep_the_command_lines_data_wins_over_the_tasks(ner_overrides, tmp_path):
    done, sweep = sweep_of(*ner_overrides, "seed=1,2", "trainer.max_epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = sorted(sweep.glob("?"))
    assert [metrics_of(job)["test/support/PER"] > 0 for job in jobs] == [True, True]
    assert done.stdout.count("data tagged0: 64 train") == 2, "and not wnut16"


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(ner_overrides, tmp_path):
    overrides = [
        *ner_overrides,
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "data.max_tokens=16",
        "data.eval_batch_size=4",
    ]
    directory = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "train.py", *overrides, f"hydra.run.dir={directory}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    two = metrics_of(directory)
    one = evaluate(
        [
            f"run={directory}",
            "trainer.strategy=auto",
            "trainer.devices=1",
            "trainer.accelerator=cpu",
        ]
    )
    for name, value in one.items():
        assert two[name] == pytest.approx(value, abs=1e-6), name
    rows = rows_of(directory / "predictions.jsonl")
    assert len(rows) == 22
    assert one["test/support/PER"] == sum(r["gold"].count("B-PER") for r in rows)
