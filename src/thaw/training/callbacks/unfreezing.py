"""Gradual unfreezing while a task trains."""

import logging
from typing import Any

import lightning.pytorch as pl

log = logging.getLogger(__name__)


class Unfreezing(pl.Callback):
    """Unfreezes a task's stages one after the other, `every` steps apart.

    Which stages train follows from the step alone, so a resumed run has them right. Lightning's
    `BaseFinetuning` freezes again on resume (lightning#21901) and fails under DDP (#20340).

    Args:
        every: number of steps between two stages; below 1, a fraction of all steps.
    """

    def __init__(self, every: float) -> None:
        self.every = every
        self.done: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.done = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        stages = len(pl_module.unfreeze_stages)
        steps = int(trainer.estimated_stepping_batches)
        every = max(1, round(self.every * steps if self.every < 1 else self.every))
        due = min(trainer.global_step // every, stages)
        if due == self.done:
            return
        self.done = due
        # DDP counts on a gradient of all that it found when it wrapped the model.
        pl_module.unfreeze_until(due, without_gradient=trainer.world_size == 1)
        log.info("step %d: %d of %d stages train", trainer.global_step, due, stages)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Drops gradients of what is still frozen: AdamW then leaves weights and moments as they
        are."""
        for module in pl_module.still_frozen():
            for parameter in module.parameters():
                parameter.grad = None
