"""Opens the directory of a run: locks it, and finds the checkpoint to resume from."""

import json
import logging
import os
import platform
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from thaw import __version__
from thaw.cli.check import plain
from thaw.cli.kept_config import keep_config, kept_config
from thaw.cli.processes import requeue, slurm_job
from thaw.cli.resume import resume_command, taken
from thaw.cli.secrets import redacted
from thaw.errors import ThawError
from thaw.storage.files import write_atomic
from thaw.training.callbacks.graceful_stop import exit_on_signals
from thaw.training.callbacks.resumable_checkpoint import Checkpoint, forget, newest
from thaw.training.loggers import keep_rows

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "lightning", "transformers", "datasets", "torchmetrics", "hydra-core")
CHECKPOINT = f"{Checkpoint.__module__}.{Checkpoint.__qualname__}"


@dataclass(frozen=True)
class Run:
    """A run that this process takes part in."""

    dir: Path  # the run directory, absolute
    config: Mapping[str, Any]  # the composed config as plain containers, without secrets
    writes: bool  # whether this process writes there, as the first one does
    ckpt_path: Path | None = None  # to resume from; None: the run starts at the first step
    logged_rows: int | None = None  # steps of a resumed run whose numbers stay; None: a new run
    warnings: Sequence[logging.LogRecord] = ()  # since the run was opened, which grows


@contextmanager
def kept_warnings() -> Iterator[list[logging.LogRecord]]:
    """Yields a list that gets what thaw warns of within."""
    keeper, logger = BufferingHandler(10_000), logging.getLogger("thaw")
    keeper.setLevel(logging.WARNING)
    logger.addHandler(keeper)
    try:
        yield keeper.buffer
    finally:
        logger.removeHandler(keeper)


@contextmanager
def open_run(cfg: Any) -> Iterator[Run]:
    """Opens the directory of a run, new or resumed, and keeps other processes out of it.

    Within, SIGTERM and Ctrl-C end the run, and the log says what to type to resume it; SIGUSR1 in a
    job of SLURM ends the run and requeues the job. Raises ThawError if another process or another
    run is there, or it cannot be written."""
    writes = not rank_zero_only.rank  # type: ignore[attr-defined]
    if not writes:
        logging.getLogger().setLevel(logging.ERROR)  # the first process says it for all
    directory = Path(cfg.run_dir).absolute()
    # A job of a sweep that is resumed may be new.
    resumed = cfg.resume is not None and (directory / "versions.json").exists()
    with locked(directory, writes):
        if writes:  # the other processes start when it has begun
            require_free(directory, resumed)
        path, rows = resume_from(cfg, directory, writes) if resumed else (None, None)
        saved = saved_at(directory) if writes else {}
        try:
            with exit_on_signals(), kept_warnings() as warnings:
                yield Run(directory, redacted(plain(cfg)), writes, path, rows, warnings)
        except ThawError:
            if writes and not resumed:
                release(directory)
            raise
        except SystemExit as stop:
            job = slurm_job() if stop.code == 128 + signal.SIGUSR1 else None
            if writes and job:
                requeue_run(job, directory, resumed, saved)
            elif writes:
                log.warning("To go on:\n  %s", resume_command(directory))
            raise


def saved_at(directory: Path) -> dict[str, int]:
    """Returns the times, in nanoseconds, at which the checkpoints of a run were written."""
    return {p.name: p.stat().st_mtime_ns for p in (directory / "checkpoints").glob("*.ckpt")}


def requeue_run(job: str, directory: Path, resumed: bool, saved: Mapping[str, int]) -> None:
    """Requeues the job of SLURM that a run belongs to, unless it would train the same again; says
    so, and if it fails what to type. `resumed` is whether this job went on with a run, and `saved`
    is `saved_at` when it began."""
    if not resumed and "SLURM_RESTART_COUNT" in os.environ:
        why = "it was before, and then began a new run; docs/slurm.sh shows a command that goes on"
    elif saved_at(directory) == saved:
        why = "it saved no checkpoint, and would get as far again; `sbatch --time` gives it more"
    else:
        log.warning("requeueing job %s; its command goes on with %s", job, directory)
        why = requeue(job) or ""
    if why:
        log.error(
            "job %s is not requeued: %s\nTo go on:\n  %s", job, why, resume_command(directory)
        )


@contextmanager
def locked(directory: Path, writes: bool) -> Iterator[None]:
    """Makes a run directory, and keeps other runs out of it while this one writes there; raises
    ThawError if another process is writing there, or it cannot be written."""
    if not writes:
        yield
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / ".lock")
        lock.acquire(timeout=10)  # seconds: workers of a run that was killed end by themselves
    except Timeout:
        raise ThawError(
            f"{directory}: another process is writing to this run directory; wait until it ends."
        ) from None
    except OSError as error:
        raise ThawError(
            f"{directory} cannot be written: {error.strerror}. hydra.run.dir=<directory> names "
            "another."
        ) from error
    try:
        yield
    finally:
        lock.release()


def require_free(directory: Path, resumed: bool) -> None:
    """Raises ThawError if another run has trained in a directory; warns if the one that is resumed
    began with other versions."""
    if not (said := taken(directory)):
        return
    if not resumed:
        raise ThawError(said)
    began, now = json.loads((directory / "versions.json").read_text("utf-8")), versions()
    if other := [f"{k} {began.get(k)}, now {v}" for k, v in now.items() if began.get(k) != v]:
        log.warning("the run began with %s: its end may differ in bits", "; ".join(other))


def start_run_dir(run: Run, cfg: Any) -> None:
    """Makes the directory of a new run its own, when training begins; a mistake that is found
    earlier leaves the directory to the corrected command."""
    if not run.writes:
        return
    path = run.dir / "versions.json"  # which says that a directory is a run's
    begins = not path.exists()
    if begins or kept_config(run.dir) is None:  # runs of thaw 0.1 kept none
        keep_config(cfg, run.dir)
    if begins:
        write_atomic(path, json.dumps(versions(), indent=2))


def release(directory: Path) -> None:
    """Leaves a directory to the corrected command after a mistake, where nothing was saved."""
    saved = [directory / "metrics.csv", *(directory / "checkpoints").glob("*.ckpt")]
    if not any(path.exists() for path in saved):
        (directory / "versions.json").unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Returns the versions that a result may depend on in its last bits."""
    names = {name: version(name) for name in LIBRARIES}
    return names | {"thaw": __version__, "python": platform.python_version()}


def resume_from(cfg: Any, directory: Path, writes: bool) -> tuple[Path | None, int]:
    """Returns the checkpoint that a run resumes from, None if there is none, and the number of
    steps whose logged numbers stay; removes what was logged after it."""
    nodes = [node for node in plain(cfg.callbacks).values() if node]
    own = next((n for n in nodes if n["_target_"] == CHECKPOINT), None)
    found = newest(Path(own["dirpath"])) if own else None
    rows = found[1]["rows"] if found else 0
    if writes:
        keep_rows(directory / "metrics.csv", rows)
        if found is None and own:
            forget(Path(own["dirpath"]))
    if found is None:
        log.info("no checkpoint: the run starts from the beginning")
        return None, rows
    log.info("going on after step %d, from %s", found[1]["step"], found[0].name)
    return found[0], rows
