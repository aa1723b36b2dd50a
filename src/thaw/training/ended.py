"""Says why training ended, and how much was trained."""

import math
from typing import Any

from lightning.pytorch.callbacks import Timer

from thaw.data.read.rows import number_of


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
