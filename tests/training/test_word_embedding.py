"""Only rows of the word embedding that training texts have are trained."""

import pytest
import torch

from helpers.runs import metrics_of

pytestmark = pytest.mark.no_figures


def whole_moments(directory):
    saved = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    word = saved["state_dict"]["model.bert.embeddings.word_embeddings.weight"]
    states = saved["optimizer_states"][0]["state"].values()
    return word, [s["exp_avg"] for s in states if s["exp_avg"].shape == word.shape]


def test_a_run_ends_like_one_that_trains_the_whole_embedding(run, monkeypatch):
    thin = run("task.weight_decay=0")
    monkeypatch.setattr("thaw.training.callbacks.word_embedding.train_rows", lambda *args: None)
    whole = run("task.weight_decay=0", name="whole")
    for name, value in metrics_of(whole).items():
        if name.startswith(("test/", "val/")):
            assert metrics_of(thin)[name] == pytest.approx(value, abs=1e-4), name
    (word, moments), (other, others) = map(whole_moments, (thin, whole))
    torch.testing.assert_close(word, other, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(moments, others, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    "options",
    [["callbacks=ema"], ["optimizer=adafactor"], ["freeze=gradual", "freeze.embeddings=false"]],
)
def test_an_average_gradual_unfreezing_and_other_optimizers_train_the_whole_embedding(
    run, monkeypatch, options
):
    asked = []
    monkeypatch.setattr("thaw.training.callbacks.word_embedding.train_rows", asked.append)
    run(*options, "trainer.max_steps=1")
    assert not asked
