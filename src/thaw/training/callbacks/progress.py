"""Shows progress as a Rich bar on a terminal, a notebook's bar there, and plain lines elsewhere.

They read the loss from the device only when metrics are logged; Lightning's `prog_bar=True` reads
it in every step.
"""

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar

from thaw.cli.watched_metric import each_once
from thaw.training.libraries import in_notebook


def progress() -> ProgressBar:
    """Returns the callback that fits standard output."""
    if in_notebook():
        return NotebookBar(leave=True)
    return Bar(leave=True) if sys.stdout.isatty() else Lines()


def validation_scores(trainer: Trainer) -> dict[str, float]:
    """Returns the scores of the last validation, each under one name, the watched one first."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    watched = next((c.monitor for c in callbacks if getattr(c, "monitor", None)), "val/f1")
    found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
    own = {k.removeprefix("val/"): found[k] for k in sorted(found, key=lambda k: (k != watched, k))}
    return {f"val/{k}": v for k, v in each_once(own, watched.removeprefix("val/")).items()}


class Scores(ProgressBar):
    """Shows the loss and the last validation beside a bar of Lightning's, with its options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.read_at = -1
        self.last_loss: float | None = None
        self.validation: dict[str, str] = {}

    def loss(self, trainer: Trainer) -> float | None:
        """Reads the training loss from the device once for each time that it is logged."""
        loss = trainer.logged_metrics.get("train/loss")
        # After a step that logs nothing, logged_metrics has the values of an earlier one.
        step = trainer.global_step // max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if loss is not None and step != self.read_at:
            self.read_at, self.last_loss = step, float(loss)
        return self.last_loss

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        loss = self.loss(trainer)
        return ({} if loss is None else {"loss": f"{loss:.3f}"}) | self.validation

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scores = list(validation_scores(trainer).items())
        shown = dict(scores[:1]) | {k: v for k, v in scores if k == "val/loss"}
        self.validation = {k: f"{v:.3f}" for k, v in shown.items()}
        super().on_validation_end(trainer, pl_module)


class Bar(Scores, RichProgressBar):
    """Lightning's Rich bar, with the loss and the last validation beside it."""


class NotebookBar(Scores, TQDMProgressBar):
    """Lightning's bar for notebooks, with the loss and the last validation beside it."""


class Lines(Scores):
    """Prints step, loss and time left every so many seconds, and a line for each validation."""

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.enabled = True

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        if self.enabled:
            print(*args, flush=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = self.said = time.monotonic()
        self.first = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        loss, now, step = self.loss(trainer), time.monotonic(), trainer.global_step
        if now - self.said < self.seconds or step <= self.first:
            return
        self.said = now
        total = int(trainer.estimated_stepping_batches)
        left = (now - self.began) / (step - self.first) * (total - step)
        shown = "" if loss is None else f"  loss {loss:.3f}"
        clock = f"{int(left) // 60}:{int(left) % 60:02d}"
        self.print(f"epoch {trainer.current_epoch}  step {step}/{total}{shown}  {clock} left")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        text = "  ".join(f"{k} {v:.4f}" for k, v in validation_scores(trainer).items())
        self.print(f"step {trainer.global_step}  {text}")
