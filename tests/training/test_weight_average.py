"""`callbacks=ema`: the average of the weights is what is validated, kept, tested and exported."""

import pytest
import torch
from safetensors.torch import load_file

from helpers.runs import metrics_of, overrides_of, result, resumed, typed
from helpers.tiny import save_tiny, tiny_config
from thaw.errors import ThawError

pytestmark = pytest.mark.no_figures

EMA = ["callbacks=ema", "callbacks.ema.decay=0.5", "callbacks.early_stopping=null"]
LORA = ["freeze=lora", "freeze.rank=2"]


class Weights:
    """Keeps the weights of a task after each step."""

    def __init__(self, monkeypatch):
        from thaw.training.callbacks.timer import TrainingTimer

        self.seen = []

        def keep(callback, trainer, task, *args):
            self.seen.append({k: v.detach().clone() for k, v in task.model.state_dict().items()})

        monkeypatch.setattr(TrainingTimer, "on_train_batch_end", keep)

    def average(self, steps, decay):
        found = self.seen[0]
        for new in self.seen[1:steps]:
            found = {k: decay * v + (1 - decay) * new[k] for k, v in found.items()}
        return found


@pytest.mark.parametrize("options", [[], ["trainer.val_check_interval=0.5", "freeze=last"]])
def test_the_best_checkpoint_and_the_export_hold_the_average(run, monkeypatch, options):
    weights = Weights(monkeypatch)
    directory = run(*EMA, *options)
    metrics = metrics_of(directory)
    exported = load_file(directory / "model" / "model.safetensors")
    best = torch.load(directory / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    expected = weights.average(int(metrics["best_step"]), 0.5)
    last = weights.seen[int(metrics["best_step"]) - 1]
    assert any(not torch.allclose(exported[k], last[k], atol=1e-5) for k in exported)
    for name, tensor in exported.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-5)
        assert torch.equal(tensor, best[f"model.{name}"])


def test_the_best_scores_are_those_of_the_exported_weights(run, reviews):
    metrics = metrics_of(
        run(
            *EMA,
            f"data.test={reviews / 'validation.csv'}",
            "data.path=null",
            f"data.train={reviews / 'train.csv'}",
            f"data.validation={reviews / 'validation.csv'}",
        )
    )
    assert metrics["test/loss"] == pytest.approx(metrics["val/loss"], rel=1e-6)


def test_without_a_validation_the_last_average_is_exported(run, monkeypatch):
    weights = Weights(monkeypatch)
    directory = run(*EMA, "trainer.limit_val_batches=0")
    expected = weights.average(len(weights.seen), 0.5)
    for name, tensor in load_file(directory / "model" / "model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-5)


def test_frozen_weights_keep_their_bits(run, tiny_bert):
    directory = run(*EMA, "freeze=head")
    before = load_file(tiny_bert / "model.safetensors")
    after = load_file(directory / "model" / "model.safetensors")
    frozen = [name for name in before if name.startswith(("embeddings.", "encoder."))]
    assert frozen
    assert all(torch.equal(before[name], after[f"bert.{name}"]) for name in frozen)


def test_adapters_are_averaged_kept_and_exported(run, monkeypatch):
    weights = Weights(monkeypatch)
    directory = run(*EMA, *LORA)
    step = int(metrics_of(directory)["best_step"])
    expected = weights.average(step, 0.5)
    adapters = [name for name in expected if ".lora_" in name]
    best = torch.load(directory / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    exported = load_file(directory / "adapter" / "adapter_model.safetensors")
    moved = [n for n in adapters if not torch.allclose(expected[n], weights.seen[step - 1][n])]
    assert moved, "the average is not the last step's"
    for name in adapters:
        torch.testing.assert_close(best[f"model.{name}"], expected[name], atol=1e-6, rtol=1e-5)
        found = exported["base_model.model." + name.replace(".default.", ".")]
        assert torch.equal(found, best[f"model.{name}"])


def test_adapters_and_their_average_resume(run, monkeypatch):
    whole = run(*EMA, *LORA, name="whole")
    assert result(resumed(run, monkeypatch, *EMA, *LORA)) == result(whole)


def test_a_task_that_fits_its_head_is_refused(run):
    with pytest.raises(ThawError, match=r"callbacks=ema: task=setfit fits its head.*=default"):
        run(*EMA, "task=setfit", "task.shots=4")


@pytest.mark.slow
def test_two_processes_leave_the_average_that_one_leaves(overrides, tmp_path):
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    still = save_tiny("BertModel", config, tmp_path / "still-bert")
    options = [*overrides_of("sequence", overrides, [], still), *EMA]
    one = typed(options, tmp_path / "one")
    assert one.returncode == 0, one.stdout + one.stderr
    two = typed([*options, "data.batch_size=4", "trainer.devices=2"], tmp_path / "two")
    assert two.returncode == 0, two.stdout + two.stderr
    weights = [load_file(tmp_path / n / "model" / "model.safetensors") for n in ("one", "two")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=1e-4)
    assert result(tmp_path / "one")[0]["best_step"] == result(tmp_path / "two")[0]["best_step"]
