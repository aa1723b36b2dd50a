"""Explains errors of the machine: no memory, no room, no permission."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from thaw.errors import ThawError, is_disk_error


@contextmanager
def explained(cfg: Any, run_dir: Path) -> Iterator[None]:
    """Raises ThawError where a run is out of memory, the disk is full, or `run_dir` cannot be
    written."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        if is_memory_error(error):
            raise ThawError(f"out of memory: {first_line(error)}\n{what_to_lower(cfg)}") from error
        if is_disk_error(error):
            free = shutil.disk_usage(run_dir).free >> 20
            raise ThawError(
                f"{run_dir} cannot be written, with {free:,} MiB free on its disk: "
                f"{first_line(error)}. What was saved before is still there."
            ) from error
        raise


def is_memory_error(error: BaseException) -> bool:
    """Returns whether memory ran out, of a GPU or of this machine."""
    refused = "can't allocate memory" in str(error) or "out of memory" in str(error)
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or (isinstance(error, RuntimeError) and refused)


def what_to_lower(cfg: Any) -> str:
    """Returns the options that a run's memory depends on, with their values."""
    data, trainer = cfg.data, cfg.trainer
    batch, times = data.batch_size, trainer.accumulate_grad_batches
    half = max(1, batch // 2)
    changes = [f"data.batch_size={half}"]
    if half < batch:
        changes.append(f"trainer.accumulate_grad_batches={times * 2}")
    hints = [
        f"{' '.join(changes)} makes the same steps of half as much at a time (now {batch} and "
        f"{times}); or a lower data.max_tokens (now {data.max_tokens}) or data.eval_batch_size "
        f"(now {data.eval_batch_size})"
    ]
    if not str(trainer.precision).startswith(("bf16", "16", "auto")):
        hints.append(
            f"trainer.precision=bf16-mixed where there are units for it (now {trainer.precision})"
        )
    hints.append("fewer trained blocks: freeze=last freeze.blocks=2")
    return f"Try {', or '.join(hints)}."


def first_line(error: BaseException) -> str:
    """Returns the message of an error without torch's pages of advice."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
