"""Says before training whether it may end early and whether it is short, and after it how much was
trained and why it ended."""

import logging
import math
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Timer

from thaw.data.read.rows import number_of

log = logging.getLogger(__name__)


class TrainingPlan(pl.Callback):
    """Says at the start how early stopping may end training, and warns of few optimizer steps."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for sentence in early_stopping_plan(trainer):
            log.info("%s", sentence)
        fewest, steps = getattr(pl_module, "fewest_steps", 0), trainer.estimated_stepping_batches
        whole = trainer.max_steps == -1 and trainer.limit_train_batches == 1.0
        if whole and trainer.max_epochs and 0 < steps < fewest:
            epochs = math.ceil(fewest * trainer.max_epochs / steps)
            log.warning(
                f"training has {number_of(steps, 'optimizer steps')}, too few to learn much from: "
                f"trainer.max_epochs={epochs} (now {trainer.max_epochs}) makes "
                f"{steps // trainer.max_epochs * epochs}{pl_module.for_few_texts}"
            )


def early_stopping_plan(trainer: Any) -> list[str]:
    """Returns how early stopping may end training that starts, as sentences; none if it cannot."""
    found = []
    limits = {name: getattr(trainer, name) or -1 for name in ("max_epochs", "max_steps")}
    ends = " and ".join(f"trainer.{name}={limit}" for name, limit in limits.items() if limit > 0)
    planned = (trainer.max_epochs or -1, epochs_of(trainer, trainer.max_steps))
    epochs = min((count for count in planned if count > 0), default=math.inf)
    for stopping in trainer.early_stopping_callbacks:
        patience, each_epoch = stopping.patience, stopping._check_on_train_epoch_end
        per_epoch = 1.0 if each_epoch else validations_per_epoch(trainer)
        if per_epoch and patience >= epochs * per_epoch:
            continue
        time = number_of(patience, "epochs" if each_epoch else "validations")
        time += f" ({patience / per_epoch:.3g} epochs)" if per_epoch and not each_epoch else ""
        found.append(
            f"early stopping: training ends{f' before {ends}' if ends else ''} when "
            f"{stopping.monitor} has not improved in {time}; callbacks.early_stopping=null: never"
        )
    return found


def validations_per_epoch(trainer: Any) -> float:
    """Returns the number of validations in an epoch; 0.0 where an epoch has no known end."""
    batches, between = trainer.num_training_batches, trainer.val_check_batch
    if not between or not math.isfinite(batches) or not math.isfinite(between):
        return 0.0
    every = trainer.check_val_every_n_epoch
    return batches / between if every is None else batches // between / every


def epochs_of(trainer: Any, steps: float) -> float:
    """Returns a number of optimizer steps in epochs, after training; 0.0 where an epoch has no
    known end."""
    batches = float(trainer.num_training_batches)
    if not math.isfinite(batches) or not batches:
        return 0.0
    return steps / math.ceil(batches / trainer.accumulate_grad_batches)


def trained(trainer: Any) -> str:
    """Returns what was trained: epochs of the epochs that were asked for, and steps."""
    asked = f" of {trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
    epochs = epochs_of(trainer, trainer.global_step)
    steps = number_of(trainer.global_step, "steps")
    return f"{epochs:.4g}{asked} ({steps})" if epochs else steps


def why_ended(trainer: Any) -> str:
    """Returns why training ended, after it did, with the option that decides it."""
    for stopping in trainer.early_stopping_callbacks:
        if why := getattr(stopping, "stopping_reason_message", None):
            return f"early stopping: {why.partition(' Signaling')[0]}"
    for timer in trainer.callbacks:
        if isinstance(timer, Timer) and (timer.time_remaining() or 1) <= 0:
            return f"trainer.max_time: {timer.time_elapsed():.0f} seconds are over"
    if 0 < trainer.max_steps <= trainer.global_step:
        return f"trainer.max_steps={trainer.max_steps} is reached"
    if trainer.max_epochs is not None and 0 < trainer.max_epochs <= trainer.current_epoch:
        left = trainer.max_steps > trainer.global_step
        more = f", before trainer.max_steps={trainer.max_steps}; max_epochs=-1: no limit"
        return f"trainer.max_epochs={trainer.max_epochs} is reached{more if left else ''}"
    return "a callback ended it"
