"""Callbacks that tests add to a run."""

import os
from typing import ClassVar

import lightning.pytorch as pl


class Watch(pl.Callback):
    """Notes whether W&B had started when the first step was done."""

    started: ClassVar[list[bool]] = []

    def on_train_batch_end(self, trainer, *args):
        self.started.append(trainer.loggers[0]._experiment is not None)


class Signal(pl.Callback):
    """Sends this process a signal at the end of a step, as a cluster or a user does.

    Args:
        number: the signal's.
        step: the step's, from 1.
        rank: rank of the process.
    """

    def __init__(self, number: int, step: int, rank: int = 0) -> None:
        self.number = number
        self.step = step
        self.rank = rank

    def on_train_batch_end(self, trainer, *args):
        if (trainer.global_step, trainer.global_rank) == (self.step, self.rank):
            os.kill(os.getpid(), self.number)
