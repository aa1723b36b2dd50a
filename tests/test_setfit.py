"""task=setfit: a few texts a class, pairs, a head in tensors, and an export that setfit loads."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import runner
from thaw.data.setfit import BalancedBatches, draw
from thaw.data.table import Texts
from thaw.errors import ThawError
from thaw.sentences import LOSSES, Pooling


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
    torch.testing.assert_close(LOSSES["cosine"](x, y), expected)


def test_supcon_loss_is_that_of_setfit(batch):
    from setfit.losses import SupConLoss

    x, y = batch
    expected = SupConLoss(Embedded())([{"sentence_embedding": x}], y)
    torch.testing.assert_close(LOSSES["supcon"](x, y), expected)


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
    torch.testing.assert_close(LOSSES["triplet"](x, y), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_have_finite_gradients(batch, name):
    x, y = batch
    LOSSES[name](x.requires_grad_(), y).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_mean_pooling_leaves_padding_out():
    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    torch.testing.assert_close(Pooling()(states, mask), torch.tensor([[2.0, 3.0]]))
    assert Pooling(normalize=True)(states, mask).norm() == pytest.approx(1.0)


def texts(**counts: int) -> Texts:
    rows = [(f"{name} {i}", name) for name, n in counts.items() for i in range(n)]
    return Texts([(t,) for t, _ in rows], [name for _, name in rows], origin="a.csv")


def test_shots_follow_from_the_seed_and_are_as_many_of_each_class():
    drawn = draw(texts(good=40, bad=9), 8, seed=1)
    assert Counter(drawn.labels) == {"good": 8, "bad": 8}
    assert drawn.texts == draw(texts(good=40, bad=9), 8, seed=1).texts
    assert drawn.texts != draw(texts(good=40, bad=9), 8, seed=2).texts


def test_texts_with_two_labels_and_duplicates_are_not_drawn():
    data = Texts([("a",), ("a",), ("b",), ("b",), ("c",)], ["x", "y", "x", "x", "y"], origin="a")
    assert sorted(draw(data, 1, seed=0).texts) == [("b",), ("c",)]


def test_fewer_examples_than_shots_says_how_many_there_are():
    with pytest.raises(ThawError, match=r"task.shots=16, and train has 9 .* 'bad'.*task.shots=9"):
        draw(texts(good=40, bad=9), 16, seed=0)


def test_batches_hold_classes_in_equal_parts_on_each_rank():
    labels = [0] * 12 + [1] * 12 + [2] * 12
    seen = []
    for rank in range(2):
        for rows in BalancedBatches(labels, 6, rank=rank, world_size=2):
            assert Counter(np.array(labels)[rows].tolist()) == {0: 2, 1: 2, 2: 2}
            seen += rows
    assert sorted(seen) == list(range(36))


@pytest.fixture
def run_setfit(overrides: list[str], tmp_path: Path) -> Callable[..., Path]:
    kept = [w for w in overrides if not w.startswith("data.batch_size")]
    few = ["task=setfit", "task.shots=8", "trainer.check_val_every_n_epoch=1"]
    return runner([*few, *kept], tmp_path)


def test_a_run_is_the_same_in_thaw_evaluate_thaw_predict_and_setfit(
    run_setfit: Callable[..., Path], reviews: Path, tmp_path: Path
):
    import pyarrow.parquet as pq
    from setfit import SetFitModel

    from thaw import evaluate, predict

    run = run_setfit()
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
    run_setfit: Callable[..., Path],
):
    run = run_setfit()
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    head = load_file(run / "model" / "head.safetensors")
    assert state["head_weight"].any()
    torch.testing.assert_close(state["head_weight"], head["weight"])


def test_without_validation_the_head_fits_the_last_weights(run_setfit: Callable[..., Path]):
    run = run_setfit("trainer.limit_val_batches=0")
    assert load_file(run / "model" / "head.safetensors")["weight"].any()


def test_a_frozen_encoder_is_an_error(run_setfit: Callable[..., Path]):
    with pytest.raises(ThawError, match="freeze=none"):
        run_setfit("freeze=head")
