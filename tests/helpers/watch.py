"""A callback that notes what is loaded when training starts."""

from typing import ClassVar

import lightning.pytorch as pl


class Watch(pl.Callback):
    """Notes whether W&B had started when the first step was done."""

    started: ClassVar[list[bool]] = []

    def on_train_batch_end(self, trainer, *args):
        self.started.append(trainer.loggers[0]._experiment is not None)
