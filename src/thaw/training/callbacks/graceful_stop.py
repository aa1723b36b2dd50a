"""Saves a checkpoint and ends a run on SIGTERM, Ctrl-C and SLURM's SIGUSR1, with the exit code that
a shell expects.

Lightning's own handlers are not used: they exit with code 0 or 1, save nothing (lightning#21623),
and may hang with several processes (#20806). That of SIGUSR1 saves within a step, in one process.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch

from thaw.cli.processes import slurm_job
from thaw.training.callbacks.resumable_checkpoint import Checkpoint, between_steps

log = logging.getLogger(__name__)

Handlers = dict[signal.Signals, Any]


def set_handlers(handler: Callable[[int, Any], None]) -> Handlers:
    """Makes a function handle SIGTERM and SIGINT, and SIGUSR1 in a job of SLURM, and returns the
    previous handlers; only in the main thread, as Python demands."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if slurm_job() else [])]
    process = os.getpid()

    def handle(number: int, frame: Any) -> None:
        if os.getpid() == process:
            handler(number, frame)
        elif number == signal.SIGTERM:  # by which the process that forked this one ends it
            raise SystemExit(128 + number)
        # SLURM and a terminal signal workers too, which serve until their process has stopped.

    return {number: signal.signal(number, handle) for number in numbers}


def restore(handlers: Handlers) -> None:
    """Restores the handlers that `set_handlers` replaced."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Ends the process within by SystemExit when a signal comes, so that locks and files close."""

    def handle(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = set_handlers(handle)
    try:
        yield
    finally:
        restore(before)


class GracefulStop(pl.Callback):
    """Ends training on a signal: after the current step, within a validation, or at once before the
    first step. A second Ctrl-C always ends it at once."""

    def __init__(self) -> None:
        self.asked = 0  # number of the signal that came; 0: none
        self.waits = False  # whether it waits for the end of a step
        self.speaks = True  # whether this process says so
        self.before: Handlers = {}

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        self.speaks = trainer.is_global_zero
        if stage == "fit":
            self.before = set_handlers(self.handle)

    def handle(self, number: int, frame: Any) -> None:
        """Notes a signal, or ends the process at once."""
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
            self.end_if_asked(trainer, "batch")

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if self.waits and not trainer.fit_loop._should_accumulate():
            self.end_if_asked(trainer, "validation")

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.ignore()
        if isinstance(exception, SystemExit):
            kill_child_processes(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Ends if a signal came after the last step."""
        self.ignore()
        if stage == "fit":
            self.end_if_asked(trainer)

    def ignore(self) -> None:
        """Leaves signals to the handlers before."""
        self.waits = False
        restore(self.before)
        self.before = {}

    def end_if_asked(self, trainer: pl.Trainer, moment: Any = None) -> None:
        """Saves and ends if a signal came, to any process; call it on every process. `moment` is
        that of `Checkpoint.save`; None: all is saved."""
        if not trainer.strategy.reduce_boolean_decision(bool(self.asked), all=False):
            return
        asked = torch.tensor(self.asked, device=trainer.strategy.root_device)
        # The same code in all processes, whichever the signal came to.
        number = int(trainer.strategy.reduce(asked, reduce_op="max"))
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        checkpoint = next((c for c in callbacks if isinstance(c, Checkpoint)), None)
        # Without a step, a resumed run starts again, and so does one that keeps no checkpoint.
        if checkpoint and moment and trainer.global_step:
            checkpoint.save(trainer, moment)
        if trainer.is_global_zero:
            log.warning("stopped after step %d", trainer.global_step)
        raise SystemExit(128 + number)


def kill_child_processes(trainer: pl.Trainer) -> None:
    """Ends the processes that Lightning started, before its observer sees them fail and kills this
    one."""
    processes = getattr(trainer.strategy.launcher, "procs", [])
    for process in processes:
        process.kill()
    processes.clear()
