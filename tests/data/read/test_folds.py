"""Folds: each text in one, groups whole, labels alike, and a sweep that averages over them."""

import json
import logging
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from helpers.sweeps import job, scores
from helpers.tiny import runner, sentences, tagged_sentences, write_columns, write_csv
from thaw.cli.check import verify
from thaw.cli.compose import compose
from thaw.cli.jobs import read_jobs
from thaw.data.read.sampling.folds import held_out
from thaw.data.read.sampling.splits import cut
from thaw.data.read.texts import Texts
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate
from thaw.report.groups import axes, swept
from thaw.report.sweep import Sweep

pytestmark = pytest.mark.no_figures


def texts(labels, groups=(), names=None):
    names = names or [f"text {i}" for i in range(len(labels))]
    return Texts([(n,) for n in names], list(labels), list(groups), "some.csv")


def folds_of(data, folds, seed=0, labels=None):
    labels = data.labels if labels is None else labels
    return [held_out(data, labels, folds, fold, seed) for fold in range(folds)]


def test_every_text_is_in_one_fold_and_labels_are_in_equal_shares():
    data = texts(["a"] * 50 + ["b"] * 25 + ["c"] * 10)
    found = folds_of(data, 5)
    assert sorted(np.concatenate(found)) == list(range(85))
    for rows in found:
        assert [[data.labels[i] for i in rows].count(x) for x in "abc"] == [10, 5, 2]


def test_folds_follow_from_the_seed_alone():
    data = texts(["a", "b"] * 20)
    again, other = folds_of(data, 4), folds_of(data, 4, seed=1)
    assert all((x == y).all() for x, y in zip(folds_of(data, 4), again, strict=True))
    assert any((x != y).any() for x, y in zip(again, other, strict=True))


def test_folds_do_not_depend_on_the_process():
    code = (
        "from thaw.data.read.sampling.folds import held_out\n"
        "from thaw.data.read.texts import Texts\n"
        "data = Texts([(f'text {i % 30}',) for i in range(40)], ['a', 'b'] * 20)\n"
        "print(held_out(data, data.labels, 3, 1, 0).tolist())"
    )
    env = {"PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)}
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    data = texts(["a", "b"] * 20, names=[f"text {i % 30}" for i in range(40)])
    assert json.loads(shown.stdout) == folds_of(data, 3)[1].tolist()


def test_groups_are_whole_and_labels_nearly_alike():
    data = texts([str(i % 3 == 0) for i in range(300)], [str(i // 6) for i in range(300)])
    found = folds_of(data, 5)
    assert sorted(np.concatenate(found)) == list(range(300))
    groups = [{data.groups[i] for i in rows} for rows in found]
    assert sum(map(len, groups)) == 50
    shares = [np.mean([data.labels[i] == "True" for i in rows]) for rows in found]
    assert max(shares) - min(shares) < 0.02


def test_a_text_that_occurs_twice_is_in_one_fold():
    data = texts(["a", "b"] * 20, names=[f"text {i % 30}" for i in range(40)])
    found = folds_of(data, 3)
    names = [{data.texts[i] for i in rows} for rows in found]
    assert sorted(np.concatenate(found)) == list(range(40))
    assert sum(map(len, names)) == 30


def test_texts_with_several_labels_are_spread_by_their_rarest():
    labels = [["common", "rare"] if i % 6 == 0 else ["common"] for i in range(60)]
    found = folds_of(texts(labels), 5)
    assert [sum("rare" in labels[i] for i in rows) for rows in found] == [2] * 5


def test_a_label_of_several_that_is_too_rare_for_each_fold_is_told(caplog):
    labels = [["x"] if i else ["x", "rare"] for i in range(20)]
    assert sorted(np.concatenate(folds_of(texts(labels), 4))) == list(range(20))
    assert "fewer texts than data.folds=4 are not in each fold: 'rare' (1)" in caplog.text


def test_labels_with_fewer_texts_than_folds_are_spread_and_one_with_one_text_trains(caplog):
    data = texts(["a"] * 12 + ["b"] * 2 + ["c"])
    assert sorted(np.concatenate(folds_of(data, 3))) == list(range(15))
    tested = []
    for rows in folds_of(data, 3):
        splits = cut(data, {}, 0, {"test": rows})
        assert set(splits["train"].labels) == {"a", "b", "c"}
        tested += splits["test"].labels
    assert sorted(tested) == ["a"] * 12 + ["b"] * 2
    assert "1 label has too few texts for test, train has them all: 'c' (1)" in caplog.text


def test_where_no_label_has_as_many_texts_as_folds_texts_are_folded_at_random():
    assert [len(rows) for rows in folds_of(texts("aabbccdd"), 4)] == [2] * 4


def test_texts_without_labels_are_folded_too():
    assert [len(rows) for rows in folds_of(texts([None] * 30), 5)] == [6] * 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (texts("ab"), r"2 different texts are too few for data\.folds=3"),
        (texts("ababab", names=["x", "y"] * 3), r"2 different texts are too few"),
        (texts("ababab", "ggghhh"), r"2 groups are too few"),
        (texts("ab" * 50, ["g"] * 98 + ["h", "i"]), "labels alone"),
    ],
)
def test_what_cannot_be_folded_is_an_error(data, message):
    if message == "labels alone":  # the largest group is a fold, and none is empty
        assert sorted(map(len, folds_of(data, 3))) == [1, 1, 98]
        return
    with pytest.raises(ThawError, match=message):
        folds_of(data, 3)


@pytest.fixture
def table(tmp_path):
    return write_csv(tmp_path / "all.csv", sentences(60), ["text", "label"])


@pytest.fixture
def words(tiny_bert, table):
    """A run on one file in a few steps."""
    return [
        "data=files",
        f"data.train={table}",
        "data.batch_size=8",
        "data.max_tokens=64",
        f"model.checkpoint={tiny_bert}",
        "logger=csv",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "trainer.max_steps=1",
        "trainer.val_check_interval=1",
    ]


def read_test(run):
    import pyarrow.parquet as pq

    return set(pq.read_table(run / "predictions.parquet")["text"].to_pylist())


def test_the_folds_of_a_file_are_tested_once_each_and_evaluate_finds_the_runs(words, tmp_path):
    run = runner(words, tmp_path)
    runs = [run("data.folds=3", f"data.fold={k}", name=str(k)) for k in range(3)]
    tested = [read_test(r) for r in runs]
    assert sorted(map(len, tested)) == [20, 20, 20]
    assert len(set().union(*tested)) == 60
    assert "| fold | 1 of 3 |" in (runs[1] / "model" / "README.md").read_text()
    kept = json.loads((runs[1] / "metrics.json").read_text())
    again = evaluate([f"run={runs[1]}", "trainer.accelerator=cpu"])
    assert again["test/loss"] == pytest.approx(kept["test/loss"], abs=1e-6)
    other = evaluate([f"run={runs[1]}", "trainer.accelerator=cpu", "data.fold=0"])
    assert other["test/loss"] != pytest.approx(kept["test/loss"], abs=1e-6)


def splits(tiny_bert, kind, **options):
    from hydra.utils import get_class

    data = get_class(kind)(name="own", tokenizer=tiny_bert, max_tokens=64, **options)
    return data, data.read_splits()


SEQUENCE = "thaw.data.sequence.SequenceData"


def test_validation_is_cut_from_what_the_fold_leaves(tiny_bert, table):
    data, found = splits(tiny_bert, SEQUENCE, train=str(table), validation=0.25, folds=3, fold=0)
    assert {k: len(v) for k, v in found.items()} == {"train": 30, "validation": 10, "test": 20}
    assert data.read_splits("test")["test"].texts == found["test"].texts
    assert data.read_splits("validation")["validation"].texts == found["validation"].texts
    _, found = splits(
        tiny_bert, SEQUENCE, train=str(table), test=0.5, validation=None, folds=3, fold=0
    )
    assert {k: len(v) for k, v in found.items()} == {"train": 40, "test": 20}


def test_with_a_named_test_split_the_fold_is_validation(tiny_bert, table, reviews):
    test = str(reviews / "test.csv")
    _, found = splits(tiny_bert, SEQUENCE, train=str(table), test=test, folds=3, fold=2)
    assert {k: len(v) for k, v in found.items()} == {"train": 40, "validation": 20, "test": 22}
    with pytest.raises(ThawError, match=r"both are named .*data\.test=null, or data\.validation"):
        splits(tiny_bert, SEQUENCE, train=str(table), test=test, validation=test, folds=3, fold=0)


def test_sentences_are_spread_by_their_entity_types(tiny_bert, tmp_path):
    rows = tagged_sentences(60)
    path = write_columns(tmp_path / "all.conll", rows)
    counts = []
    for fold in range(3):
        data, found = splits(
            tiny_bert,
            "thaw.data.ner.TokenData",
            format="columns",
            train=str(path),
            folds=3,
            fold=fold,
        )
        kinds = data.strata(found["test"])
        counts.append({name: sum(name in kind for kind in kinds) for name in ("LOC", "PER")})
    rarest = min(("LOC", "PER"), key=lambda name: sum(c[name] for c in counts))
    spread = [c[rarest] for c in counts]
    assert max(spread) - min(spread) <= 1, counts


def test_shots_are_drawn_from_the_other_folds(tiny_bert, table):
    _, found = splits(
        tiny_bert,
        "thaw.data.setfit.SetFitData",
        train=str(table),
        shots=4,
        folds=3,
        fold=0,
        validation=None,
    )
    assert {k: len(v) for k, v in found.items()} == {"train": 8, "test": 20}
    assert not set(found["train"].texts) & set(found["test"].texts)


def test_without_labelled_texts_but_with_a_source_of_tests_the_fold_is_tested(tiny_bert, table):
    _, found = splits(
        tiny_bert,
        "thaw.data.setfit.SetFitData",
        train=None,
        cut_from=str(table),
        zero_shot=True,
        folds=3,
        fold=0,
        validation=None,
    )
    assert len(found["test"]) == 20


def test_files_of_a_folder_are_whole_in_pretraining_and_a_stream_has_no_folds(tiny_bert, tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text(f"film {number}\nmovie {number}\n")
    kind = "thaw.data.mlm.MaskedLanguageModelData"
    options = {"train": str(tmp_path), "validation": None, "folds": 3, "fold": 1}
    _, found = splits(tiny_bert, kind, **options)
    assert len(set(found["test"].groups)) == 3
    assert not set(found["test"].groups) & set(found["train"].groups)
    with pytest.raises(ThawError, match=r"data\.folds needs all texts at once"):
        splits(tiny_bert, kind, streaming=True, **options)
    with pytest.raises(ThawError, match=r"data\.train_size needs all texts at once"):
        splits(tiny_bert, kind, streaming=True, train=str(tmp_path), train_size=2)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["data.folds=1", "data.fold=0"], "data.folds=1 does not fit"),
        (
            ["data.folds=5"],
            "which one is this run's. For all of them: -m data.folds=5 data.fold=0,",
        ),
        (["data.fold=0"], "data.fold=0 needs data.folds="),
        (["data.folds=5", "data.fold=5"], "folds are 0 to 4"),
        (["data=rotten_tomatoes", "data.folds=5", "data.fold=0"], "both are named"),
    ],
)
def test_folds_that_are_not_there_are_answered_before_anything_is_read(typed, message):
    with pytest.raises(ThawError, match=message):
        verify(compose([*typed, "run_dir=."]), typed)


def test_pretraining_in_a_chain_must_not_read_what_the_classifier_is_tested_on():
    from thaw.adapt import classify

    cfg = compose(["experiment=chapter/adapt", "data.folds=5", "data.fold=0", "run_dir=."])
    with pytest.raises(ThawError, match=r"take no data\.folds"):
        classify(cfg)


def test_a_sweep_averages_over_folds_and_over_seeds_and_folds(tmp_path):
    swept_words = product(("1e-3", "1e-4"), range(2), range(2))
    for number, (rate, fold, seed) in enumerate(swept_words):
        job(
            tmp_path,
            str(number),
            "data.folds=2",
            f"task.learning_rate={rate}",
            f"data.fold={fold}",
            f"seed={seed}",
            metrics=scores(0.5 + number / 10),
        )
    jobs = read_jobs(tmp_path)
    assert axes(swept(jobs)) == ["task.learning_rate"]
    Sweep(tmp_path, "val/f1").write()
    table = (tmp_path / "summary.md").read_text().splitlines()
    assert table[2:] == [
        "| 1e-4 | 4 | 0.1000 ± 0.0000 ★ | 1.0500 ± 0.1291 | 2.0 ± 0.0 |",
        "| 1e-3 | 4 | 0.1000 ± 0.0000 | 0.6500 ± 0.1291 | 2.0 ± 0.0 |",
    ]


def test_folds_or_seeds_alone_end_with_their_mean(tmp_path):
    for fold in range(3):
        job(
            tmp_path,
            str(fold),
            "data.folds=3",
            f"data.fold={fold}",
            metrics=scores(0.5 + fold / 10),
        )
    Sweep(tmp_path, "val/f1").write()
    table = (tmp_path / "summary.md").read_text().splitlines()
    assert table[0] == "| data.fold | runs | val/f1 | test/f1 | seconds |"
    assert table[2] == "| 0 | 1 | 0.1000 | 0.5000 | 2.0 |"
    assert table[-1] == "| all | 3 | 0.1000 ± 0.0000 | 0.6000 ± 0.1000 | 2.0 ± 0.0 |"


def test_the_log_says_which_fold_is_what(tiny_bert, table, caplog):
    with caplog.at_level(logging.INFO):
        splits(tiny_bert, SEQUENCE, train=str(table), folds=3, fold=1)
    assert "test is fold 1 of 0 to 2: 20 of 60 texts" in caplog.text
