"""Checkpoints that a run resumes from as if it had not stopped.

Lightning writes its own within a batch, a validation or the end of an epoch, and a resumed run
loses or repeats a part of these. These are written between steps, after all work of the steps
before."""

import logging
import os
import zipfile
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from pydantic import PositiveInt

from thaw.storage.files import atomic, sync
from thaw.training.callbacks.timer import TrainingTimer

log = logging.getLogger(__name__)

LAST, PREVIOUS, NEXT = "last.ckpt", "previous.ckpt", "next.ckpt"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint aside in its directory, syncs and renames it.

    Lightning's goes through memory and a temporary directory, perhaps on another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic(Path(path)) as aside:
            torch.save(checkpoint, aside)


class Checkpoint(pl.callbacks.Checkpoint):
    """Keeps last.ckpt, and previous.ckpt before it, between two steps.

    It writes after each validation, at the end of an epoch and of training, and where the run is
    asked to stop.

    Args:
        dirpath: directory of the checkpoints.
        every_n_train_steps: number of optimizer steps between further checkpoints; None: none.
    """

    def __init__(self, dirpath: str, every_n_train_steps: PositiveInt | None = None) -> None:
        self.directory = Path(dirpath)
        self.every = every_n_train_steps
        self.rows = 0  # logged steps below it are done; see `thaw.training.loggers.keep_rows`
        self.moment: Literal["batch", "validation", "end", ""] = ""
        self.due = self.restored = False
        self.step = 0

    def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.due |= trainer.state.fn == "fit"

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        progress = trainer.fit_loop.epoch_loop.batch_progress
        if self.restored:
            self.restored = False
            # Lightning takes back the batch that had begun in `current` alone.
            progress.total.ready = progress.total.completed + 1
        step = trainer.global_step
        if step == self.step or not between_steps(trainer):
            return
        if self.due or progress.current.completed == 0 or (self.every and step % self.every == 0):
            self.save(trainer, "batch")

    def on_train_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.save(trainer, "end")

    def save(self, trainer: pl.Trainer, moment: Literal["batch", "validation", "end"]) -> None:
        """Writes a checkpoint; call it on every rank.

        Args:
            trainer: trainer of the run.
            moment: time of the checkpoint: before a "batch", within a "validation", which is then
                repeated, or at the "end" of training.
        """
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        stepped = trainer.fit_loop.epoch_loop._batches_that_stepped
        self.moment, self.step = moment, trainer.global_step
        self.rows = stepped + (moment == "validation")
        trainer.save_checkpoint(self.directory / NEXT)
        self.moment, self.due = "", False
        if trainer.is_global_zero:
            if (self.directory / LAST).exists():
                os.replace(self.directory / LAST, self.directory / PREVIOUS)
            os.replace(self.directory / NEXT, self.directory / LAST)
            sync(self.directory)
        trainer.strategy.barrier()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, TrainingTimer) and moment == "batch":
                callback.go()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Sets the progress of Lightning's loops so that they resume at this batch or
        validation."""
        checkpoint["should_stop"] = trainer.should_stop  # early stopping may have decided already
        if self.moment in ("end", ""):
            return
        loops = checkpoint["loops"]["fit_loop"]
        validates = int(self.moment == "validation")
        evaluated = loops["epoch_loop.val_loop.batch_progress"]
        evaluated["current"] = dict.fromkeys(evaluated["current"], 0)
        # One begun and none done is how they know that a validation was stopped.
        evaluated["total"] = dict.fromkeys(evaluated["total"], 0)
        evaluated["total"] |= {"ready": validates, "started": validates}
        if not validates:
            batches = loops["epoch_loop.batch_progress"]
            batches["is_last_batch"] = False
            # They count the step of the batch that had begun, and it is still to come.
            ready, every = batches["current"]["ready"], trainer.accumulate_grad_batches
            steps = ready % every == 0 or ready == trainer.num_training_batches
            loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= int(steps)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.step, self.restored = state_dict["rows"], state_dict["step"], True

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Finds the best checkpoint where the run directory was moved."""
        trainer.should_stop = checkpoint["should_stop"]
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key, {})
            directory = str(getattr(callback, "dirpath", ""))
            if "dirpath" not in state or state["dirpath"] == directory:
                continue
            for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
                state[key] = moved(state[key], directory)
            kept = state["best_k_models"].items()
            state["best_k_models"] = {moved(path, directory): score for path, score in kept}
            state["dirpath"] = directory


def moved(path: str, directory: str) -> str:
    """Returns the path of a file in another directory; "" stays."""
    return path and str(Path(directory) / Path(path).name)


def between_steps(trainer: pl.Trainer) -> bool:
    """Returns whether no gradient is accumulated at the start of a batch."""
    done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
    if trainer.overfit_batches:  # type: ignore[attr-defined]
        return done == 0  # its loader begins with the first batch
    return done % trainer.accumulate_grad_batches == 0


def newest(directory: Path) -> tuple[Path, dict[str, Any]] | None:
    """Returns the newest whole checkpoint, and the state of its `Checkpoint`; None: there is none.

    A damaged one is skipped with a warning. Without the best one, which must be whole too, the run
    starts from the beginning.
    """
    for path in (directory / LAST, directory / PREVIOUS):
        state = read(path) if path.exists() else None
        if state is None:
            continue
        bests = [s["best_model_path"] for s in state["callbacks"].values() if "dirpath" in s]
        best = directory / Path(bests[0]).name if bests and bests[0] else None
        if best is None or (best.exists() and read(best) is not None):
            return path, state["callbacks"][Checkpoint.__qualname__]
        log.warning("without %s the run starts from the beginning", best.name)
        return None
    return None


def read(path: Path) -> dict[str, Any] | None:
    """Returns a checkpoint with memory-mapped tensors; None, with a warning, if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch checks no sums
            bad = archive.testzip()
        if bad is None:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        why = f"the checksum of {bad} is wrong"
    except Exception as error:  # damage can look like anything
        why = f"{type(error).__name__}: {error}".splitlines()[0]
    log.warning("%s is damaged and passed over: %s", path, why)
    return None


def forget(directory: Path) -> None:
    """Removes the checkpoints of a run that starts again, first those that it would resume from."""
    for name in (LAST, PREVIOUS, NEXT):
        (directory / name).unlink(missing_ok=True)
    for path in directory.glob("*.ckpt"):
        path.unlink()
