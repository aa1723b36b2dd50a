"""What goes wrong on a machine, in words: no memory, no room, no permission."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from thaw.errors import ThawError, is_disk_error


@contextmanager
def explained(cfg: Any, run_dir: Path) -> Iterator[None]:
    """Turns what a run's machine refuses into a message.

    Args:
        cfg: the composed config.
        run_dir: of the run.

    Raises:
        ThawError: out of memory, a full disk, or a directory that cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        if is_memory_error(error):
            raise ThawError(f"out of memory: {first_line(error)}\n{what_to_lower(cfg)}") from error
        if is_disk_error(error):
            raise ThawError(
                f"{run_dir}: {first_line(error)}. What was saved before is still there."
            ) from error
        raise


def is_memory_error(error: BaseException) -> bool:
    """Whether memory ran out: of a GPU, or of this machine as torch and Python report it."""
    refused = "can't allocate memory" in str(error) or "out of memory" in str(error)
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or (isinstance(error, RuntimeError) and refused)


def what_to_lower(cfg: Any) -> str:
    """The options that a run's memory follows from, with what they are now."""
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
    """What an error says, without torch's pages of advice."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
