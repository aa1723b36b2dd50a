"""Skips optimizer steps whose loss or gradient is not finite, and reports or counts them."""

import logging
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from thaw.data.read.rows import number_of
from thaw.errors import ThawError
from thaw.training.optim import scales_gradients

log = logging.getLogger(__name__)

Action = Literal["stop", "skip"]
Batch = tuple[Tensor, Tensor | None]  # whether the loss is not finite, and the rows
SHOWN = 20  # rows in a message


class NonFiniteGuard(pl.Callback):
    """Skips each optimizer step with a loss or gradient that is not finite.

    A fused step itself skips, on the device (`found_inf`, as with a loss scaler), so weights and
    moments stay and no step waits for a GPU; other optimizers get no gradient, and a GPU waits. The
    flags are read in every step on a CPU, and every `trainer.log_every_n_steps` on a GPU, where
    logging waits anyway. A step is skipped on all ranks or on none. A loss scaler (16-mixed) skips
    gradients that overflow at its scale, which is no failure; only the loss counts then.

    Args:
        action: "stop", which raises ThawError with step and rows, or "skip", which counts; None:
            the trainer's `on_nonfinite`.
    """

    def __init__(self, action: Action | None = None) -> None:
        self.action = action
        self.steps = 0  # number of steps that were skipped
        self.rows: Tensor | None = None
        self.judged: list[tuple[int, Tensor]] = []  # step and flag, since the last `look`
        self.batches: list[Batch] = []  # of these steps
        self.open: list[Batch] = []  # of the coming step

    @property
    def state_key(self) -> str:
        return "NonFinite"  # in checkpoints of thaw 0.1

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        self.action = self.action or getattr(trainer, "on_nonfinite", "stop")

    def metrics(self) -> dict[str, float]:
        """Returns what metrics.json says: the number of steps left out, if such steps may be."""
        return {"nonfinite_steps": self.steps} if self.action == "skip" else {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        self.rows = batch.get("row")

    def on_before_backward(self, trainer: pl.Trainer, module: Any, loss: Tensor) -> None:
        self.open.append((~loss.detach().isfinite().all(), self.rows))

    def judge(self, step: int, optimizer: torch.optim.Optimizer, norm: Tensor | None) -> None:
        """Makes the coming step, counted from 1, change nothing if loss or gradient is not finite;
        `norm` is that of the gradient, None where a loss scaler checks it."""
        parameters = optimizer.param_groups[0]["params"]
        flags = [flag for flag, _ in self.open] + ([] if norm is None else [~norm.isfinite()])
        self.batches += self.open
        self.open = []
        found = torch.stack(flags).any().float()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        if norm is not None and (
            isinstance(parameters[0], DTensor) or not scales_gradients(optimizer)
        ):
            if found.item():  # no fused step, or one that takes no flag with sharded weights
                optimizer.zero_grad(set_to_none=True)
        elif norm is not None:
            optimizer.found_inf = found  # type: ignore[attr-defined]
        self.judged.append((step, found))

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        every = 1 if module.device.type == "cpu" else getattr(trainer, "log_every_n_steps", 0) or 50
        if len(self.judged) >= every:
            self.look(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.look(trainer, module)
        if self.steps and self.steps >= trainer.global_step:
            raise ThawError(
                f"all {number_of(self.steps, 'steps')} had a loss or gradient that is not finite: "
                f"nothing was learned. {advice(trainer, module)}"
            )

    def look(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Reads the flags since the last call; raises ThawError for a bad step under "stop"."""
        judged, self.judged = self.judged, []
        batches, self.batches = self.batches, []
        if not judged:
            return
        flags = torch.stack([flag for _, flag in judged]).tolist()
        bad = [step for (step, _), flag in zip(judged, flags, strict=True) if flag]
        if not bad:
            return
        self.steps += len(bad)
        # The rows are those of all bad steps since the last look; the step is the first.
        said = f"step {bad[0]}: loss or gradient is not finite{of_rows(batches)}"
        if self.action == "stop":
            raise ThawError(
                f"{said}. The step was left out, so the weights are finite. "
                f"{advice(trainer, pl_module)} trainer.on_nonfinite=skip leaves such steps out, "
                "counts them, and goes on."
            )
        if trainer.is_global_zero:
            log.warning("%s; left out, the %d. in this run", said, self.steps)

    on_validation_start = on_train_epoch_end = look

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.steps = state_dict["steps"]


def guard_of(trainer: pl.Trainer) -> NonFiniteGuard | None:
    """Returns the guard among a trainer's callbacks, or None."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next((c for c in callbacks if isinstance(c, NonFiniteGuard)), None)


def of_rows(batches: list[Batch]) -> str:
    """Returns the rows of train in batches with a bad loss, of all ranks, as text; "" without any.

    Call it on every rank.
    """
    rows = [
        row
        for flag, held in batches
        if bool(flag) and held is not None
        for row in held.flatten().tolist()
    ]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        ranks: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(ranks, rows)
        rows = [row for rank in ranks for row in rank]
    if not rows:
        return ""
    rows = sorted(set(rows))
    shown = ", ".join(map(str, rows[:SHOWN])) + (", ..." if len(rows) > SHOWN else "")
    return f" in a batch of rows {shown} of train (from 0, as they were read)"


def advice(trainer: pl.Trainer, module: Any) -> str:
    """Returns the options to change, with their values."""
    hints = [f"a lower task.learning_rate (now {module.learning_rate:g})"]
    if not trainer.gradient_clip_val:
        hints.append("gradient clipping (trainer.gradient_clip_val=1.0)")
    if not str(trainer.precision).startswith(("32", "64")):
        hints.append(f"more bits (trainer.precision=32-true, now {trainer.precision})")
    return f"Try {' and '.join(hints)}."
