"""A run: compose -> build -> freeze -> fit -> test -> export."""

import json
import logging
import platform
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from filelock import FileLock, Timeout
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig

from thaw import __version__
from thaw.cli.check import plain, verify
from thaw.cli.kept_config import keep_config
from thaw.cli.secrets import redacted
from thaw.cli.watched_metric import require_watched
from thaw.encoder.sharding import gather, load_whole
from thaw.errors import ThawError
from thaw.evaluate import evaluate
from thaw.report.wandb_upload import share_run
from thaw.storage.checkpoints import fetch_model
from thaw.storage.files import write_whole
from thaw.training.graceful_stop import Stop
from thaw.training.libraries import keep_pages, quieten
from thaw.training.loggers import keep_rows
from thaw.training.machine_errors import explained
from thaw.training.resumable_checkpoint import Checkpoint, forget, newest
from thaw.training.throughput import Throughput, peak_memory_mib, restart_peak
from thaw.training.timer import Clock
from thaw.training.trainer import Trainer

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "lightning", "transformers", "datasets", "torchmetrics", "hydra-core")


def train(cfg: DictConfig, typed: Sequence[str] | None = None) -> float | None:
    """Runs a composed config and leaves a run directory that stands alone.

    Args:
        cfg: `conf/train.yaml`, composed.
        typed: the user's overrides that this task must read; None: Hydra's.

    Returns:
        The best value of the watched metric, or None without validation.

    Raises:
        ThawError: the config, the data or the checkpoint does not fit.
    """
    quieten()
    verify(cfg, typed)
    keep_pages()
    restart_peak()
    trainer = build_trainer(cfg)
    run_dir = Path(cfg.run_dir).absolute()
    try:
        with callback(trainer, Stop).listening(trainer), alone(run_dir, trainer.is_global_zero):
            return run(cfg, trainer)
    except SystemExit:
        if trainer.is_global_zero:
            log.warning(
                "Stopped after step %d. To go on:\n  %s", trainer.global_step, how_to_go_on(run_dir)
            )
        raise


def run(cfg: DictConfig, trainer: Trainer) -> float | None:
    """What `train` does with its trainer."""
    # Taken up with its sweep, a job may be new.
    again = cfg.resume is not None and (Path(cfg.run_dir) / "versions.json").exists()
    run_dir = claim(Path(cfg.run_dir), trainer.is_global_zero, again)
    if not trainer.is_global_zero:
        logging.getLogger().setLevel(logging.ERROR)  # rank 0 says it for all
    point = find_point(trainer, run_dir) if again else None

    if trainer.is_global_zero:
        keep_config(cfg, run_dir)

    checkpoint = fetch_model(plain(cfg.model).get("checkpoint"), cfg.model.revision)
    data = instantiate(cfg.data, tokenizer=checkpoint, seed=cfg.seed, _convert_="all")
    data.read()
    log.info("data %s: %s", data.name, ", ".join(f"{v} {k}" for k, v in data.sizes().items()))

    # After the data, so that the head's weights follow from the seed alone.
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    task = instantiate(cfg.task, checkpoint=checkpoint, _convert_="all", **data.for_task())
    task.run_seed = cfg.seed
    task.freeze_with(instantiate(cfg.freeze, _convert_="all"))
    require_watched(plain(cfg), task.logged_metrics())
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    total = sum(p.numel() for p in task.parameters())
    log.info("model %s: %s of %s parameters train", cfg.model.name, f"{trained:,}", f"{total:,}")
    log.info("run %s", run_dir)
    shown = redacted(plain(cfg))
    for logger in trainer.loggers:
        logger.log_hyperparams(shown)

    with explained(cfg, run_dir):
        metrics = fit(trainer, task, data, point)
        results = None
        if "test" in data.rows and trainer.limit_test_batches != 0:
            metrics |= evaluate(trainer, task, data)
            results = task.test_results()
        gather(task)
        if trainer.is_global_zero:
            from thaw.report.run import write_run  # figures: not in memory while training

            found = write_run(run_dir, task, data, shown, metrics, results)
    for logger in trainer.loggers:
        if isinstance(logger, pl.loggers.WandbLogger) and trainer.is_global_zero:
            share_run(logger, found, metrics, run_dir)
            logger.experiment.finish()  # else the next job of a sweep goes on in this run
    return metrics.get(cfg.monitor)


@contextmanager
def alone(run_dir: Path, writer: bool) -> Iterator[None]:
    """Makes a run directory, and keeps other runs out of it while this one writes there.

    Raises:
        ThawError: another process is at it, or it cannot be written.
    """
    if not writer:
        yield
        return
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run_dir / ".lock")
        lock.acquire(timeout=10)  # seconds: workers of a run that was killed end by themselves
    except Timeout:
        raise ThawError(f"{run_dir}: another process is at this run. Wait for it.") from None
    except OSError as error:
        raise ThawError(
            f"{run_dir} cannot be written: {error.strerror}. hydra.run.dir=<directory> names "
            "another."
        ) from error
    try:
        yield
    finally:
        lock.release()


def claim(run_dir: Path, writer: bool, again: bool = False) -> Path:
    """Makes a run directory this run's own.

    Args:
        run_dir: is there, of `alone`.
        writer: whether this process writes, as rank 0 does.
        again: whether this is the run that has been there before.

    Raises:
        ThawError: another run has been there before.
    """
    run_dir = run_dir.absolute()
    path = run_dir / "versions.json"
    names = {name: version(name) for name in LIBRARIES}
    names |= {"thaw": __version__, "python": platform.python_version()}
    if not writer:
        return run_dir
    if path.exists() and not again:
        raise ThawError(
            f"{run_dir} holds a run already: leave hydra.run.dir out, name a new directory, or go "
            f"on with it: {how_to_go_on(run_dir)}"
        )
    if path.exists():
        began = json.loads(path.read_text(encoding="utf-8"))
        if other := [f"{k} {began.get(k)}, now {v}" for k, v in names.items() if began.get(k) != v]:
            log.warning("the run began with %s: its end may differ in bits", "; ".join(other))
    else:
        write_whole(path, json.dumps(names, indent=2))
    return run_dir


def find_point(trainer: pl.Trainer, run_dir: Path) -> Path | None:
    """The checkpoint that a run goes on from, None if there is none: it begins anew."""
    saver = callback(trainer, Checkpoint)
    found = newest(saver) if saver else None
    if trainer.is_global_zero:
        # What was logged after it will be logged again.
        rows = found[1]["rows"] if found else 0
        keep_rows(run_dir / "metrics.csv", rows)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger._kwargs["purge_step"] = rows  # of SummaryWriter
        if found is None and saver is not None:
            forget(saver.directory)
    if found is None:
        log.info("no checkpoint: the run begins anew")
        return None
    log.info("going on after step %d, from %s", found[1]["step"], found[0].name)
    return found[0]


def build_trainer(cfg: DictConfig) -> Trainer:
    """The Trainer with its loggers and callbacks."""
    try:
        loggers = [instantiate(node, _convert_="all") for node in cfg.logger.values() if node]
    except InstantiationException as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        extra_of = ", ".join(f"pip install -e '.[{name}]'" for name in cfg.logger)
        raise ThawError(f"a logger is not installed: {extra_of}. ({error.__cause__})") from error
    callbacks = [instantiate(node, _convert_="all") for node in cfg.callbacks.values() if node]
    callbacks += [Clock(), Throughput(), Stop()]
    extra: dict[str, Any] = {}
    if not any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks):
        extra["enable_checkpointing"] = False
    if not cfg.trainer.enable_progress_bar:
        callbacks = [c for c in callbacks if not isinstance(c, pl.callbacks.ProgressBar)]
    if not loggers:
        unheard = ("LearningRateMonitor", "Throughput")
        callbacks = [c for c in callbacks if type(c).__name__ not in unheard]
    try:
        return instantiate(
            cfg.trainer, logger=loggers or False, callbacks=callbacks, _convert_="all", **extra
        )
    except InstantiationException as error:  # Hydra wraps what a constructor raises
        reason = error.__cause__ or error
        told = isinstance(reason, ThawError)
        raise ThawError(str(reason) if told else f"trainer: {reason}") from error


def callback(trainer: pl.Trainer, kind: type) -> Any:
    """The trainer's callback of a class, or None."""
    return next((c for c in trainer.callbacks if isinstance(c, kind)), None)  # type: ignore[attr-defined]


def fit(trainer: Trainer, task: Any, data: Any, point: Path | None) -> dict[str, float]:
    """Trains, and puts the weights of the best checkpoint into the task.

    Args:
        trainer: of `build_trainer`.
        task: with its parts frozen.
        data: the datamodule, read.
        point: the checkpoint to go on from.

    Returns:
        Validation metrics of the best checkpoint and before the first step, seconds, samples per
        second, memory.
    """
    saver = callback(trainer, Checkpoint) or Checkpoint("")
    if "validation" not in data.rows or trainer.limit_val_batches == 0:
        log.warning("no validation: the last weights are the result, nothing stops early")
        stop_watching(trainer)
    elif task.validates_first and point is None:
        # Tensors made in inference mode, such as a metric's, could not be used in training.
        trainer.validate_loop.inference_mode = False
        trainer.validate(task, datamodule=data, verbose=False, weights_only=True)
        saver.start = {
            k.replace("val/", "start/"): float(v) for k, v in trainer.callback_metrics.items()
        }
    trainer.fit(task, datamodule=data, ckpt_path=point, weights_only=True)
    callback(trainer, Stop).after_training(trainer)
    if trainer.current_epoch == trainer.max_epochs and trainer.global_step < trainer.max_steps:
        log.warning(
            "%d of trainer.max_steps=%d steps were made: trainer.max_epochs=%d is less (-1: none)",
            trainer.global_step,
            trainer.max_steps,
            trainer.max_epochs,
        )
    for stopping in trainer.early_stopping_callbacks:
        if why := getattr(stopping, "stopping_reason_message", None):
            log.info(
                "stopped early, after step %d: %s",
                trainer.global_step,
                why.partition(" Signaling")[0],
            )
    metrics = dict(task.val_metrics)
    best = next((c for c in trainer.checkpoint_callbacks if getattr(c, "monitor", None)), None)
    if best is not None and best.best_model_path:  # type: ignore[attr-defined]
        path = best.best_model_path  # type: ignore[attr-defined]
        state = torch.load(path, map_location="cpu", weights_only=True)
        load_whole(task, state["state_dict"])
        metrics = state["val_metrics"]
        metrics["best_step"] = state["global_step"]
        told = state["global_step"], best.monitor  # type: ignore[attr-defined]
        log.info("the weights of step %d are the result, the best by %s", *told)
    metrics |= saver.start
    metrics["steps"] = trainer.global_step
    if trainer.nonfinite.action == "skip":
        metrics["nonfinite_steps"] = trainer.nonfinite.steps
    metrics |= callback(trainer, Clock).metrics()
    metrics["peak_memory_mib"] = round(peak_memory_mib(), 1)
    return metrics


def stop_watching(trainer: pl.Trainer) -> None:
    """Removes the callbacks that wait for a validation metric."""
    kept = [c for c in trainer.callbacks if not getattr(c, "monitor", None)]  # type: ignore[attr-defined]
    trainer.callbacks = kept  # type: ignore[attr-defined]


def how_to_go_on(run_dir: Path) -> str:
    """What to type to go on with a run, or with its sweep."""
    sweeps = (run_dir.parent / "multirun.yaml").is_file()
    return shlex.join(["python", "train.py", f"resume={run_dir.parent if sweeps else run_dir}"])
