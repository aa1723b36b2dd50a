"""Says before training what it will be: whether it may end early, and whether it is short."""

import logging
import math
from typing import Any

import lightning.pytorch as pl

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
    for stopping in trainer.early_stopping_callbacks:
        patience, each_epoch = stopping.patience, stopping._check_on_train_epoch_end
        per_epoch = 1.0 if each_epoch else validations_per_epoch(trainer)
        known = per_epoch and trainer.max_epochs is not None and trainer.max_epochs > 0
        if known and patience >= trainer.max_epochs * per_epoch:
            continue
        time = number_of(patience, "epochs" if each_epoch else "validations")
        time += f" ({patience / per_epoch:.3g} epochs)" if per_epoch and not each_epoch else ""
        found.append(
            f"early stopping: training ends before trainer.max_epochs={trainer.max_epochs} when "
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
