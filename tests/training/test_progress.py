"""What is shown while training, and how often the loss is read from the device."""

from types import SimpleNamespace

import pytest
import torch

from thaw.training.callbacks.progress import Bar, Lines, progress


class Counted:
    """A loss that counts how often it is read."""

    reads = 0

    def __float__(self):
        self.reads += 1
        return 0.5


def test_the_loss_is_read_once_per_logging_step():
    loss = Counted()
    trainer = SimpleNamespace(
        logged_metrics={"train/loss": loss}, global_step=0, log_every_n_steps=10
    )
    lines = Lines()
    for step in range(30):
        trainer.global_step = step
        assert lines.loss(trainer) == 0.5
    assert loss.reads == 3


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert isinstance(progress(), Bar)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert isinstance(progress(), Lines)


def test_lines_name_step_loss_and_time_left(capsys):
    trainer = SimpleNamespace(
        logged_metrics={"train/loss": torch.tensor(0.25)},
        global_step=0,
        log_every_n_steps=1,
        estimated_stepping_batches=40,
        current_epoch=0,
    )
    lines = Lines(seconds=0.0)
    lines.on_train_start(trainer, None)
    lines.began -= 30
    trainer.global_step = 10
    lines.on_train_batch_end(trainer)
    assert capsys.readouterr().out == "epoch 0  step 10/40  loss 0.250  1:30 left\n"


@pytest.mark.parametrize(
    ("watched", "labels", "shown"),
    [
        ("val/f1", 2, "val/f1 0.5000  val/f1_macro 0.4000  val/loss 0.7000"),
        ("val/f1_binary", 2, "val/f1_binary 0.5000  val/f1_macro 0.4000  val/loss 0.7000"),
        ("val/loss", 2, "val/loss 0.7000  val/f1 0.5000  val/f1_macro 0.4000"),
        ("val/f1", 3, "val/f1 0.5000  val/loss 0.7000"),
    ],
)
def test_a_line_of_validation_has_each_score_once_and_the_watched_one_first(
    watched, labels, shown, capsys
):
    two = {"val/f1_macro": 0.4, "val/f1_binary": 0.5}
    metrics = {"val/loss": 0.7, "val/f1": 0.5, **(two if labels == 2 else {"val/f1_macro": 0.5})}
    trainer = SimpleNamespace(
        callback_metrics={"train/loss": 0.1, **metrics},
        callbacks=[SimpleNamespace(), SimpleNamespace(monitor=watched)],
        sanity_checking=False,
        global_step=80,
    )
    Lines().on_validation_end(trainer, None)
    assert capsys.readouterr().out == f"step 80  {shown}\n"


def test_a_bar_shows_the_watched_score_and_the_loss():
    trainer = SimpleNamespace(
        callback_metrics={"val/loss": 0.7, "val/f1": 0.5, "val/mcc": 0.25},
        callbacks=[SimpleNamespace(monitor="val/mcc")],
        logged_metrics={},
        global_step=1,
        log_every_n_steps=1,
        state=SimpleNamespace(fn="validate"),
    )
    bar = Bar()
    bar.on_validation_end(trainer, None)
    assert bar.get_metrics(trainer, None) == {"val/mcc": "0.250", "val/loss": "0.700"}
