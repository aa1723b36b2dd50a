"""task=setfit: a few texts a class, pairs, a head in tensors, and an export that setfit loads."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hydra.errors import InstantiationException
from lightning.pytorch import Trainer
from safetensors.torch import load_file
from setfit import SetFitModel
from sklearn.linear_model import LogisticRegression
from transformers import AutoTokenizer

from helpers.sentence_models import load_sentence_model, save_sentence_model
from helpers.tables import read_rows
from helpers.tiny import runner, save_tiny, sentences, tiny_config, write_csv
from thaw.data.batch.pairs import PairBatches, sample_pairs
from thaw.data.batch.samplers import BalancedBatches
from thaw.data.read.sampling.few_shots import distinct, draw
from thaw.data.read.texts import Texts
from thaw.encoder.linear_heads import differentiable_head
from thaw.errors import ThawError
from thaw.tasks.contrastive import LOSSES, all_pairs, pair_loss, shared_labels
from thaw.tasks.setfit import SetFit

pytestmark = pytest.mark.no_figures


class Embedded(torch.nn.Module):
    """Stands for a sentence encoder: its features are embeddings already."""

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return features


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(12, 8, dtype=torch.float64), torch.arange(12) % 3


def test_cosine_loss_is_that_of_sentence_transformers_on_all_pairs(batch):
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    x, y = batch
    i, j = torch.triu_indices(12, 12, offset=1)
    theirs = CosineSimilarityLoss(Embedded())
    expected = theirs.compute_loss_from_embeddings([x[i], x[j]], (y[i] == y[j]).double())
    torch.testing.assert_close(LOSSES["cosine"](x, all_pairs(y)), expected)


def test_supcon_loss_is_that_of_setfit(batch):
    from setfit.losses import SupConLoss

    x, y = batch
    expected = SupConLoss(Embedded())([{"sentence_embedding": x}], y)
    torch.testing.assert_close(LOSSES["supcon"](x, all_pairs(y)), expected)


def test_triplet_loss_is_batch_hard_triplets_of_sentence_transformers(batch):
    from sentence_transformers.sentence_transformer.losses import (
        BatchHardTripletLoss,
        BatchHardTripletLossDistanceFunction,
    )

    x, y = batch
    theirs = BatchHardTripletLoss(
        Embedded(), BatchHardTripletLossDistanceFunction.cosine_distance, margin=0.25
    )
    expected = theirs.compute_loss_from_embeddings([x], y)
    torch.testing.assert_close(LOSSES["triplet"](x, all_pairs(y)), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_have_finite_gradients(batch, name):
    x, y = batch
    LOSSES[name](x.requires_grad_(), all_pairs(y)).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def texts(**counts: int) -> Texts:
    rows = [(f"{name} {i}", name) for name, n in counts.items() for i in range(n)]
    return Texts([(t,) for t, _ in rows], [name for _, name in rows], origin="a.csv")


def test_the_seed_decides_the_shots_and_each_class_has_as_many():
    drawn = draw(texts(good=40, bad=9), 8, seed=1)
    assert Counter(drawn.labels) == {"good": 8, "bad": 8}
    assert drawn.texts == draw(texts(good=40, bad=9), 8, seed=1).texts
    assert drawn.texts != draw(texts(good=40, bad=9), 8, seed=2).texts


def test_texts_with_two_labels_and_duplicates_are_not_drawn():
    data = Texts([("a",), ("a",), ("b",), ("b",), ("c",)], ["x", "y", "x", "x", "y"], origin="a")
    assert sorted(draw(distinct(data), 1, seed=0).texts) == [("b",), ("c",)]


def test_fewer_examples_than_shots_says_how_many_there_are():
    with pytest.raises(
        ThawError, match=r"16 different texts.* fewer of 'bad' \(9\).*task\.shots=9"
    ):
        draw(texts(good=40, bad=9), 16, seed=0)


def test_batches_hold_labels_in_equal_parts_over_all_ranks_and_each_text_once_a_round():
    labels = np.array([0] * 12 + [1] * 12 + [2] * 12)
    ranks = [list(BalancedBatches(labels, 6, rank=r, world_size=2)) for r in range(2)]
    for parts in zip(*ranks, strict=True):
        assert Counter(labels[np.concatenate(parts)].tolist()) == {0: 4, 1: 4, 2: 4}
    assert sorted(row for rank in ranks for rows in rank for row in rows) == list(range(36))


def test_a_small_batch_still_holds_two_texts_of_a_label():
    labels = np.repeat(np.arange(20), 8)
    for rows in BalancedBatches(labels, 16):
        assert min(Counter(labels[rows].tolist()).values()) >= 2


def test_an_epoch_has_the_requested_batches_and_resumes_in_its_middle():
    whole = BalancedBatches([0, 1] * 8, 8, steps=5, seed=3)
    batches = list(whole)
    assert len(batches) == len(whole) == 5
    for half in (batches[:2], batches[2:4]):
        assert sorted(np.concatenate(half)) == list(range(16))
    whole.start = 3
    assert list(whole) == batches[3:]
    whole.set_epoch(1)
    assert list(whole) != batches


@pytest.mark.parametrize(
    "options",
    [
        {"num_iterations": 3},
        {"sampling_strategy": "oversampling"},
        {"sampling_strategy": "undersampling"},
        {"sampling_strategy": "unique"},
    ],
)
@pytest.mark.parametrize("multi_label", [False, True])
def test_sampled_pairs_are_setfits_in_its_order(options: dict, multi_label: bool):
    from setfit.sampler import ContrastiveDataset

    rng = np.random.default_rng(0)
    labels = (rng.random((9, 3)) < 0.4).astype(int) if multi_label else rng.integers(3, size=9)
    theirs = ContrastiveDataset(list(range(9)), list(labels), multi_label, **options)
    expected = [(pair["sentence_1"], pair["sentence_2"]) for pair in theirs]
    given = {k.replace("_strategy", ""): v for k, v in options.items()}
    assert list(map(tuple, sample_pairs(labels, **given).tolist())) == expected


def test_pairs_of_many_texts_are_drawn_in_bounded_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("thaw.data.batch.pairs.LISTED", 1000)
    pairs = sample_pairs(np.arange(500) % 2, sampling="unique")
    assert pairs.shape == (1000, 2)
    assert len(np.unique(pairs, axis=0)) > 950


def test_ranks_split_the_pairs_of_an_epoch():
    pairs = sample_pairs(np.arange(10) % 2, num_iterations=2)
    ranks = [PairBatches(pairs, 4, seed=1, rank=r, world_size=2) for r in range(2)]
    rows = [row for rank in ranks for batch in rank for row in batch]
    assert sorted(map(tuple, np.reshape(rows, (-1, 2)).tolist())) == sorted(
        map(tuple, pairs.tolist())
    )


def test_texts_share_a_label_if_one_of_several_is_the_same():
    labels = torch.tensor([[1.0, 1, 0], [0, 1, 1], [0, 0, 1]])
    assert all_pairs(labels).tolist() == [[True, True, False], [True] * 3, [False, True, True]]
    assert shared_labels(labels[:2], labels[1:]).tolist() == [True, True]


def test_the_loss_of_given_pairs_is_that_of_sentence_transformers(batch):
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    x, y = batch
    pairs = torch.tensor([[0, 3], [1, 1], [5, 2], [5, 2], [7, 8]])
    i, j = pairs.T
    expected = CosineSimilarityLoss(Embedded()).compute_loss_from_embeddings(
        [x[i], x[j]], (y[i] == y[j]).double()
    )
    torch.testing.assert_close(pair_loss(x, pairs, y[i] == y[j]), expected)


# As other tests have it, so that they share its run.
FEW = ("task=setfit", "task.shots=8", "task.steps=2", "trainer.max_epochs=1")


@pytest.fixture
def run_setfit(overrides: list[str], tmp_path: Path) -> Callable[..., Path]:
    kept = [w for w in overrides if not w.startswith("data.batch_size")]
    few = ["task=setfit", "task.shots=8", "task.steps=4"]
    return runner([*few, *kept], tmp_path)


def test_a_run_is_the_same_in_thaw_evaluate_thaw_predict_and_setfit(
    finished: Callable[..., Path], reviews: Path, tmp_path: Path
):
    from thaw import evaluate, predict

    run = finished(*FEW)
    metrics = json.loads((run / "metrics.json").read_text())
    tested = pq.read_table(run / "predictions.parquet").to_pylist()
    assert len(tested) == 22  # the whole test split
    assert evaluate.main([f"run={run}"])["test/f1"] == pytest.approx(metrics["test/f1"])

    out = tmp_path / "out.jsonl"
    predict.main([f"run={run}", f"input={reviews / 'test.csv'}", f"output={out}"])
    ours = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["prediction"] for r in ours] == [r["prediction"] for r in tested]

    theirs = SetFitModel.from_pretrained(str(run / "model"), device="cpu")
    rows = [r["text"] for r in tested]
    assert list(theirs.predict(rows)) == [r["prediction"] for r in tested]
    expected = np.array([[r["probability/neg"], r["probability/pos"]] for r in tested])
    np.testing.assert_allclose(np.array(theirs.predict_proba(rows)), expected, atol=1e-5)


def test_the_head_in_the_checkpoint_is_tensors_and_the_exported_one(
    finished: Callable[..., Path],
):
    run = finished(*FEW)
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    head = load_file(run / "model" / "head.safetensors")
    assert state["head.weight"].any()
    torch.testing.assert_close(state["head.weight"], head["weight"])


def test_without_validation_the_head_fits_the_last_weights(run_setfit: Callable[..., Path]):
    run = run_setfit("trainer.limit_val_batches=0")
    assert load_file(run / "model" / "head.safetensors")["weight"].any()


@pytest.fixture(scope="module")
def still_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder without dropout, as a directory of sentence-transformers."""
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    directory = tmp_path_factory.mktemp("models")
    return save_sentence_model(
        save_tiny("BertModel", config, directory / "bert"), directory / "still"
    )


@pytest.mark.parametrize("normalize", [False, True])
def test_loss_and_gradients_of_the_encoder_are_those_of_sentence_transformers(
    still_bert: Path, tmp_path: Path, normalize: bool
):
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    modules = [Pooling(32), *([Normalize()] if normalize else [])]
    save_sentence_model(still_bert, tmp_path / "model", *modules)
    texts = [text for text, _ in sentences(10)]
    labels = torch.arange(10) % 3
    theirs = load_sentence_model(tmp_path / "model")
    i, j = torch.triu_indices(10, 10, offset=1)
    features = [theirs.tokenize([texts[k] for k in side]) for side in (i, j)]
    expected = CosineSimilarityLoss(theirs)(features, (labels[i] == labels[j]).float())
    expected.backward()

    ours = SetFit(tmp_path / "model", labels=["a", "b", "c"], max_tokens=64)
    encoded = AutoTokenizer.from_pretrained(still_bert)(texts, padding=True, return_tensors="pt")
    ours.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    loss = ours.embedding_loss(ours.embed(**encoded), labels, None)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    wanted = dict(theirs[0].auto_model.named_parameters())
    compared = 0
    for name, parameter in ours.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=1e-6, rtol=1e-4)
            compared += 1
    assert compared == 37  # all but the pooler's two


def encoder_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def test_sampled_pairs_train_and_an_epoch_has_all_of_them(run_setfit: Callable[..., Path]):
    run = run_setfit(
        "task.pairs=sampled", "task.num_iterations=2", "data.batch_size=16", "trainer.max_epochs=1"
    )
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["steps"] == 16 * 2 * 2 / 16


@pytest.mark.parametrize("loss", ["supcon", "triplet"])
def test_other_losses_train(run_setfit: Callable[..., Path], loss: str):
    run = run_setfit(f"task.loss={loss}", "trainer.max_epochs=1")
    assert (run / "model" / "model_head.pkl").exists()


def test_other_losses_take_all_pairs(run_setfit: Callable[..., Path]):
    with pytest.raises(InstantiationException, match=r"task.loss=triplet is over all pairs"):
        run_setfit("task.pairs=sampled", "task.loss=triplet")


def test_with_a_frozen_encoder_the_head_is_logistic_regression_on_its_embeddings(
    run_setfit: Callable[..., Path], still_bert: Path, reviews: Path
):
    run = run_setfit("freeze=head", "task.shots=null", f"model.checkpoint={still_bert}")
    before = load_file(still_bert / "model.safetensors")
    for name, tensor in encoder_of(run).items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    theirs = load_sentence_model(still_bert)
    splits = {s: list(read_rows(reviews / f"{s}.csv", "utf-8")) for s in ("train", "test")}
    x = {s: theirs.encode([row["text"] for row in rows]) for s, rows in splits.items()}
    head = LogisticRegression().fit(x["train"], [row["label"] == "pos" for row in splits["train"]])
    rows = pq.read_table(run / "predictions.parquet").to_pylist()
    np.testing.assert_allclose(
        [row["probability/pos"] for row in rows], head.predict_proba(x["test"])[:, 1], atol=2e-3
    )


def test_frozen_blocks_computed_once_give_the_same_model(
    run_setfit: Callable[..., Path], still_bert: Path
):
    overrides = ["freeze=last", "freeze.blocks=1", f"model.checkpoint={still_bert}"]
    kept = run_setfit(*overrides, name="kept")
    anew = run_setfit(*overrides, "freeze.cache=false", name="anew")
    assert json.loads((kept / "metrics.json").read_text())["prefix_blocks"] == 1
    for name, tensor in encoder_of(kept).items():
        torch.testing.assert_close(tensor, encoder_of(anew)[name], atol=1e-5, rtol=1e-4)


def test_a_differentiable_head_minimizes_cross_entropy():
    torch.manual_seed(0)
    x, y = torch.randn(60, 5), torch.arange(60) % 3
    head = differentiable_head(x, y, ["a", "b", "c"], learning_rate=1e-2)
    start = torch.nn.functional.cross_entropy(torch.zeros(60, 3), y)
    fitted = torch.nn.functional.cross_entropy(head(x), y)
    weights = LogisticRegression(C=1e6, max_iter=5000).fit(x, y)
    best = torch.nn.functional.cross_entropy(
        torch.tensor(weights.decision_function(x)).log_softmax(-1), y
    )
    assert fitted - best < 0.02 * (start - best)


def test_a_differentiable_head_trains_with_the_encoder_at_the_end(
    run_setfit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    heads: list[torch.Tensor] = []
    step = SetFit.training_step

    def look(task, batch, number):
        heads.append(task.head.weight.detach().clone())
        return step(task, batch, number)

    monkeypatch.setattr(SetFit, "training_step", look)
    run = run_setfit(
        "task.head=differentiable", "task.joint_ratio=0.5", "trainer.max_epochs=1", "task.steps=8"
    )
    final = load_file(run / "model" / "head.safetensors")["weight"]
    fitted, trained = heads[4], heads[5]
    assert not torch.equal(heads[3], fitted)
    assert 0 < (trained - fitted).norm() < 0.2 * fitted.norm()
    assert (final - fitted).norm() < fitted.norm()
    theirs = SetFitModel.from_pretrained(str(run / "model"), device="cpu")
    rows = pq.read_table(run / "predictions.parquet").to_pylist()
    assert list(theirs.predict([r["text"] for r in rows])) == [r["prediction"] for r in rows]


def test_texts_with_several_labels_get_a_decision_for_each(
    run_setfit: Callable[..., Path], tmp_path: Path
):
    rows = [
        (text, "|".join({label, "long" if len(text) > 50 else "short"}))
        for text, label in sentences(80)
    ]
    paths = {
        s: write_csv(tmp_path / f"{s}.csv", part, ["text", "label"])
        for s, part in (("train", rows[:60]), ("test", rows[60:]))
    }
    run = run_setfit(
        "data.path=null",
        f"data.train={paths['train']}",
        f"data.test={paths['test']}",
        "data.validation=null",
        "data.label_separator='|'",
    )
    tested = pq.read_table(run / "predictions.parquet").to_pylist()
    theirs = SetFitModel.from_pretrained(
        str(run / "model"), device="cpu", multi_target_strategy="one-vs-rest"
    )
    texts = [row["text"] for row in tested]
    names = ["long", "neg", "pos", "short"]
    expected = [[row[f"probability/{name}"] for name in names] for row in tested]
    np.testing.assert_allclose(np.array(theirs.predict_proba(texts)), expected, atol=1e-5)
    predicted = np.array(theirs.predict(texts, use_labels=False))
    assert predicted.tolist() == [[int(n in row["prediction"]) for n in names] for row in tested]


def test_zero_shot_builds_its_texts_from_templates_and_names(
    run_setfit: Callable[..., Path], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level("INFO"):
        run = run_setfit(
            "data.train=null",
            "task.zero_shot=true",
            "task.shots=3",
            "task.templates=['This is {}','A {} film']",
            "task.label_texts=[bad,good]",
        )
    assert "zero-shot: 6 texts such as 'This is bad'" in caplog.text
    assert len(pq.read_table(run / "predictions.parquet")) == 22


def test_zero_shot_cuts_its_test_from_where_train_would_be(
    run_setfit: Callable[..., Path], reviews: Path
):
    overrides = ["task.zero_shot=true", "data.test=0.3", "task.steps=1"]
    without = run_setfit("data.train=null", "data.cut_from=train.csv", *overrides, name="without")
    given = run_setfit(*overrides, name="given")
    tables = [pq.read_table(run / "predictions.parquet") for run in (without, given)]
    assert tables[0]["text"] == tables[1]["text"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["data.test=null", "data.validation=null"], r"needs names: data.labels="),
        (["data.label=grade"], r"a label called '1' says nothing.*task.label_texts="),
        (["task.label_texts=[good]"], r"expected 2, for neg, pos"),
        (["task.templates=['This is good']"], r"'This is good' needs one {}"),
        (["data.validation=null", "data.test=0.2"], r"needs data.train="),
    ],
)
def test_zero_shot_says_what_it_lacks(
    run_setfit: Callable[..., Path], tmp_path: Path, options: list[str], message: str
):
    rows = [(text, label, "12"[label == "pos"]) for text, label in sentences(20)]
    path = write_csv(tmp_path / "test.csv", rows, ["text", "label", "grade"])
    files = ["data.path=null", "data.train=null", f"data.test={path}", "data.validation=null"]
    with pytest.raises((ThawError, InstantiationException), match=message):
        run_setfit("task.zero_shot=true", *files, *options)


def test_a_label_with_one_text_is_an_error(run_setfit: Callable[..., Path], tmp_path: Path):
    rows = [*sentences(12), ("a lone film", "rare")]
    path = write_csv(tmp_path / "train.csv", rows, ["text", "label"])
    overrides = ["data.path=null", f"data.train={path}", "data.test=null", "data.validation=null"]
    with pytest.raises(ThawError, match=r"labels with one text, .*: 'rare' \(1\)\."):
        run_setfit("task.shots=null", *overrides)


def test_a_head_that_is_not_stored_as_tensors_is_never_read(
    finished_copy: Callable[..., Path], reviews: Path
):
    from thaw import predict

    run = finished_copy(*FEW)
    (run / "model" / "model_head.pkl").write_bytes(b"not a pickle at all")
    predict.main([f"run={run}", f"input={reviews / 'test.csv'}", f"output={run / 'out.csv'}"])
    (run / "model" / "head.safetensors").unlink()
    with pytest.raises(ThawError, match=r"has no head.safetensors"):
        predict.main([f"run={run}", f"input={reviews / 'test.csv'}", f"output={run / 'out.csv'}"])


def test_task_sequence_trains_on_few_shots_too(run: Callable[..., Path]):
    directory = run("data.shots=4", "data.steps=6", "trainer.max_epochs=1")
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["steps"] == 6


@pytest.mark.parametrize(("shots", "steps"), [(2, 20), (22, 22)])
def test_an_epoch_of_few_shots_has_at_least_20_steps(
    run: Callable[..., Path], shots: int, steps: int
):
    directory = run(f"data.shots={shots}", "trainer.max_epochs=1", "freeze=head")
    assert json.loads((directory / "metrics.json").read_text())["steps"] == steps
