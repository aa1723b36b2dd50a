"""Logs the speed of training and the peak memory."""

import re
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

STATUS, RESTART = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory_mib() -> float:
    """Returns the peak memory in MiB since `restart_peak`, of the GPU or else of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    if STATUS.exists():
        peak = re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text(encoding="utf-8"))
        return int(peak[1]) / 2**10 if peak else 0.0
    unit = 1 if sys.platform == "darwin" else 2**10  # of getrusage: bytes there, else KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def restart_peak() -> None:
    """Resets the peak memory, which another job of a sweep may have set, if the system can (Linux:
    proc(5))."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if RESTART.exists():
        with suppress(OSError):
            RESTART.write_text("5", encoding="utf-8")


class Throughput(pl.Callback):
    """Logs `train/tokens_per_second`, without padding, and `train/memory_mib`, the peak so far,
    with the loss.

    The speed is a mean since the last time, without validation and checkpoints; with several ranks,
    that of this one times their number. Tokens are summed on the device and read with the loss.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self, *args: Any, **kwargs: Any) -> None:
        """Starts a new mean."""
        self.began = time.monotonic()
        self.tokens: Tensor | int = 0

    on_train_epoch_start = on_validation_end = restart

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if not trainer.loggers:
            return
        mask = batch.get("attention_mask")  # none where there is no padding
        self.tokens = self.tokens + (batch["input_ids"].numel() if mask is None else mask.sum())
        if not trainer._logger_connector.should_update_logs:
            return
        rate = trainer.world_size / max(time.monotonic() - self.began, 1e-9)
        pl_module.log_dict(
            {
                "train/tokens_per_second": self.tokens * rate,
                "train/memory_mib": torch.tensor(peak_memory_mib()),
            }
        )
        self.restart()
