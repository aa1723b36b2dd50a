"""Early stopping is announced before training, and why training ended is said after it."""

import json
import re
from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import EarlyStopping, Timer

from thaw.training.callbacks.plan import early_stopping_plan, trained, why_ended
from thaw.training.trainer import Trainer

pytestmark = pytest.mark.no_figures


def trainer(callbacks=(), **found):
    """A Trainer that begins to train, as far as it is looked at."""
    base = {"num_training_batches": 40, "val_check_batch": 10, "check_val_every_n_epoch": 1}
    base |= {"max_steps": -1, "accumulate_grad_batches": 1}
    return SimpleNamespace(**base | {"early_stopping_callbacks": [*callbacks]} | found)


@pytest.mark.parametrize(
    ("patience", "found", "said"),
    [
        (5, {"max_epochs": 10}, "5 validations (1.25 epochs)"),
        (3, {"max_epochs": 10, "val_check_batch": 40}, "3 validations (3 epochs)"),
        (3, {"max_epochs": 10, "val_check_batch": 25}, "3 validations (3 epochs)"),
        (
            3,
            {"max_epochs": 10, "val_check_batch": 80, "check_val_every_n_epoch": None},
            "(6 epochs)",
        ),
        (
            3,
            {"max_epochs": 10, "val_check_batch": 40, "check_val_every_n_epoch": 2},
            "3 validations (6 epochs)",
        ),
        (3, {"max_epochs": -1, "val_check_batch": 40}, "early stopping: training ends when val/f1"),
        (3, {"max_epochs": 10, "num_training_batches": float("inf")}, "3 validations; "),
        (5, {"max_epochs": 1}, None),
        (5, {"max_epochs": -1, "max_steps": 40}, None),
        (
            5,
            {"max_epochs": -1, "max_steps": 120},
            "training ends before trainer.max_steps=120 when",
        ),
        (4, {"max_epochs": 4, "val_check_batch": 40}, None),
    ],
)
def test_how_early_stopping_may_end_a_run_is_said_before_it(patience, found, said):
    stopping = EarlyStopping("val/f1", patience=patience, check_on_train_epoch_end=False)
    sentences = early_stopping_plan(trainer([stopping], **found))
    assert len(sentences) == (said is not None)
    for sentence in sentences:
        assert "val/f1 has not improved in" in sentence
        assert said in sentence
        assert ("before trainer.max_epochs=" in sentence) == (found["max_epochs"] > 0)
        assert "callbacks.early_stopping=null" in sentence
    assert early_stopping_plan(trainer(**found)) == []


@pytest.mark.parametrize(
    ("batches", "between"), [(3, 3), (30, 30), (49, 49), (50, 25), (99, 33), (100, 25), (402, 100)]
)
def test_a_short_epoch_has_fewer_than_four_validations(batches, between):
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit_loop.max_batches = batches
    trainer.val_check_batch = max(1, batches // 4)  # as Lightning does before training
    assert trainer.val_check_batch == between


@pytest.mark.parametrize(("steps", "between"), [(4, 8), (12, 24), (20, 30), (-1, 30)])
def test_a_run_that_ends_before_its_first_validation_has_one_at_the_end(steps, between):
    options = {"max_steps": steps, "accumulate_grad_batches": 2}
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **options)
    trainer.fit_loop.max_batches = 30
    trainer.val_check_batch = 7  # as Lightning does before training
    assert trainer.val_check_batch == between


def test_weights_of_a_run_of_few_steps_are_validated(run):
    metrics = json.loads((run("trainer.max_steps=2") / "metrics.json").read_text())
    assert metrics["best_step"] == 2
    assert "val/f1" in metrics


def test_a_run_of_few_steps_is_warned_with_what_to_type(run, caplog):
    run("trainer.max_epochs=1")
    steps, epochs, makes = re.search(
        r"training has (\d+) optimizer steps, .*: trainer.max_epochs=(\d+) \(now 1\) makes (\d+); "
        r"task=setfit learns from a few",
        caplog.text,
    ).groups()
    assert int(makes) == int(steps) * int(epochs) >= 50 > int(makes) - int(steps)


def test_few_steps_that_a_user_asked_for_are_no_warning(run, caplog):
    run("trainer.max_steps=2")
    assert "optimizer steps, too few" not in caplog.text


def after(**found):
    """A Trainer after training, as far as it is looked at."""
    base = {"global_step": 20, "current_epoch": 2, "max_epochs": 2, "max_steps": -1}
    base |= {"num_training_batches": 20, "accumulate_grad_batches": 2}
    return SimpleNamespace(**base | {"early_stopping_callbacks": [], "callbacks": []} | found)


def test_why_training_ended_is_said_with_the_option_that_decided():
    assert why_ended(after()) == "trainer.max_epochs=2 is reached"
    assert "before trainer.max_steps=30" in why_ended(after(max_steps=30))
    assert why_ended(after(max_steps=20, max_epochs=None)) == "trainer.max_steps=20 is reached"
    stopping = SimpleNamespace(stopping_reason_message="val/f1 stood still. Signaling Trainer")
    assert why_ended(after(early_stopping_callbacks=[stopping])).startswith(
        "early stopping: val/f1"
    )
    timer = Timer("00:00:00:01")
    timer.time_elapsed = lambda *stage: 2.0
    assert why_ended(after(callbacks=[timer], max_epochs=9)).startswith("trainer.max_time: 2 sec")
    assert why_ended(after(max_epochs=-1)) == "a callback ended it"


def test_what_was_trained_is_said_in_epochs_of_those_asked_for():
    assert trained(after()) == "2 of 2 (20 steps)"
    assert trained(after(global_step=25, max_epochs=10)) == "2.5 of 10 (25 steps)"
    assert trained(after(max_epochs=-1)) == "2 (20 steps)"
    assert trained(after(num_training_batches=float("inf"))) == "20 steps"
