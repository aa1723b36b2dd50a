"""Measures how long training takes, and counts its samples."""

import time
from typing import Any

import lightning.pytorch as pl


class TrainingTimer(pl.Callback):
    """Measures the seconds of training batches, without validation and checkpoints, and counts
    samples; a resumed run adds to those of before."""

    @property
    def state_key(self) -> str:
        return "Clock"  # in checkpoints of thaw 0.1

    def __init__(self) -> None:
        self.seconds = self.fit_seconds = 0.0
        self.samples = 0
        self.began = 0.0
        self.fit_began = time.monotonic()

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            self.fit_began = time.monotonic()

    def on_validation_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.training or trainer.validating:
            self.pause()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.samples += len(batch["row"]) * trainer.world_size

    def go(self, *args: Any, **kwargs: Any) -> None:
        """Starts to count, unless it does already."""
        self.began = self.began or time.monotonic()

    def pause(self, *args: Any, **kwargs: Any) -> None:
        """Stops counting."""
        if self.began:
            self.seconds += time.monotonic() - self.began
        self.began = 0.0

    on_train_epoch_start, on_train_epoch_end = go, pause
    on_train_batch_start = go  # after a checkpoint, or in a run that is resumed within an epoch

    def state_dict(self) -> dict[str, float]:
        self.pause()
        fit_seconds = self.fit_seconds + time.monotonic() - self.fit_began
        return {"seconds": self.seconds, "fit_seconds": fit_seconds, "samples": self.samples}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.seconds, self.samples = state_dict["seconds"], int(state_dict["samples"])
        self.fit_seconds = state_dict["fit_seconds"]

    def metrics(self) -> dict[str, float]:
        """Returns the values for metrics.json."""
        return {
            "fit_seconds": round(self.fit_seconds + time.monotonic() - self.fit_began, 2),
            "train_seconds": round(self.seconds, 2),
            "samples_per_second": round(self.samples / max(self.seconds, 1e-9), 2),
        }
