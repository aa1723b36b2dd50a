"""Keeps the weights with the best watched metric."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Lightning's checkpoint of the best weights; among equal scores, those with the lowest loss.

    On a small validation split many scores are equal, and Lightning keeps the first: the weights
    that were trained least.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.loss = torch.inf

    @property
    def state_key(self) -> str:
        """The key of Lightning's class, in whose place thaw 0.1 had none of its own."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def check_monitor_top_k(self, trainer: pl.Trainer, current: Any = None) -> bool:
        """Returns whether the weights are to be saved."""
        better = super().check_monitor_top_k(trainer, current)
        loss = float(trainer.callback_metrics.get("val/loss", torch.inf))
        equal = self.save_top_k == 1 and current is not None and current == self.best_model_score
        if better or (equal and loss < self.loss):
            self.loss = loss
            return True
        return False

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"loss": self.loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loss = state_dict.get("loss", -torch.inf)  # of thaw 0.1, which kept the first
        super().load_state_dict(state_dict)
