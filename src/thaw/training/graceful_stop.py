"""SIGTERM and Ctrl-C: a run saves what it has and ends, with the code that a shell expects."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl

from thaw.training.resumable_checkpoint import Checkpoint, between_steps

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop(pl.Callback):
    """Ends training after a step, or within a validation, when a signal came; elsewhere at once.

    A second Ctrl-C ends at once everywhere. Lightning's own handlers are not used: they exit with
    code 0 or 1, save nothing (lightning#21623) and may hang with several processes (#20806).

    Attributes:
        asked: the signal that came.
        waits: whether it waits for the end of a step.
        speaks: whether this process says so.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.waits = False
        self.speaks = True

    @contextmanager
    def listening(self, trainer: pl.Trainer) -> Iterator[None]:
        """Has signals end what runs within."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.hear) for number in SIGNALS}
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        self.speaks = trainer.is_global_zero
        try:
            yield
        except SystemExit:
            leave_no_process(trainer)
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def hear(self, number: int, frame: Any) -> None:
        """Takes note of a signal, or ends at once."""
        if self.asked and number == signal.SIGTERM:
            return  # a process gets it twice where its group and its parent are told
        if self.asked or not self.waits:
            raise SystemExit(128 + number)
        self.asked = number
        if self.speaks:  # not by logging or print, which may be what the signal came into
            os.write(2, f"{signal.Signals(number).name}: stopping after this step\n".encode())

    def on_train_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self.waits = True

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if between_steps(trainer):
            self.end(trainer, "batch")

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if self.waits and not trainer.fit_loop._should_accumulate():
            self.end(trainer, "validation")

    def on_exception(self, *args: Any) -> None:
        self.waits = False

    def after_training(self, trainer: pl.Trainer) -> None:
        """Ends if a signal came after the last step."""
        self.waits = False
        self.end(trainer)

    def end(self, trainer: pl.Trainer, moment: Any = None) -> None:
        """Saves and ends if a signal came, to any rank; call it on every rank.

        Args:
            trainer: that trains.
            moment: of `Checkpoint.save`; None: all is saved.
        """
        if not trainer.strategy.reduce_boolean_decision(bool(self.asked), all=False):
            return
        saver = next((c for c in trainer.callbacks if isinstance(c, Checkpoint)), None)  # type: ignore[attr-defined]
        # Without a step, a resumed run begins anew, and so does one that keeps no checkpoint.
        if saver and moment and trainer.global_step:
            saver.save(trainer, moment)
        raise SystemExit(128 + (self.asked or signal.SIGTERM))


def leave_no_process(trainer: pl.Trainer) -> None:
    """Ends the processes that Lightning started; its observer would kill this one for theirs."""
    processes = getattr(trainer.strategy.launcher, "procs", [])
    for process in processes:
        process.kill()
    processes.clear()
