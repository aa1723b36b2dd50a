"""A run: compose -> build -> freeze -> fit -> test -> export."""

import ctypes
import json
import logging
import os
import platform
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from thaw import __version__
from thaw.config import plain, verify
from thaw.errors import ThawError
from thaw.evaluate import evaluate
from thaw.failures import explained
from thaw.fsdp import gather, load_whole
from thaw.redact import redacted
from thaw.share import share_run
from thaw.sources import fetch_model
from thaw.throughput import Throughput, peak_memory_mib
from thaw.trainer import Trainer

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
    trainer = build_trainer(cfg)
    run_dir = claim(Path(cfg.run_dir), trainer.is_global_zero)
    if not trainer.is_global_zero:
        logging.getLogger().setLevel(logging.ERROR)  # rank 0 says it for all

    checkpoint = fetch_model(plain(cfg.model).get("checkpoint"), cfg.model.revision)
    data = instantiate(cfg.data, tokenizer=checkpoint, seed=cfg.seed, _convert_="all")
    data.read()
    log.info("data %s: %s", data.name, ", ".join(f"{v} {k}" for k, v in data.sizes().items()))

    # After the data, so that the head's weights follow from the seed alone.
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    task = instantiate(cfg.task, checkpoint=checkpoint, _convert_="all", **data.for_task())
    task.freeze_with(instantiate(cfg.freeze, _convert_="all"))
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    total = sum(p.numel() for p in task.parameters())
    log.info("model %s: %s of %s parameters train", cfg.model.name, f"{trained:,}", f"{total:,}")
    log.info("run %s", run_dir)
    shown = redacted(plain(cfg))
    for logger in trainer.loggers:
        logger.log_hyperparams(shown)

    with explained(cfg, run_dir):
        metrics = fit(trainer, task, data, cfg, run_dir)
        results = None
        if "test" in data.rows and trainer.limit_test_batches != 0:
            metrics |= evaluate(trainer, task, data)
            results = task.test_results()
        gather(task)
        if trainer.is_global_zero:
            from thaw.results import write_run  # figures: not in memory while training

            found = write_run(run_dir, task, data, shown, metrics, results)
    for logger in trainer.loggers:
        if isinstance(logger, pl.loggers.WandbLogger) and trainer.is_global_zero:
            share_run(logger, found, metrics, run_dir)
            logger.experiment.finish()  # else the next job of a sweep goes on in this run
    return metrics.get(cfg.monitor)


def keep_pages() -> None:
    """Lets glibc keep the memory that a step frees for the next one, for as long as the run.

    By default it gives each large tensor back to the system, which then clears its pages anew: some
    11,000 page faults in a step of MiniLM, a tenth of its time. The peak is the same.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never


def quieten() -> None:
    """Silences what libraries say at every start and a user cannot act on."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # not imported for its bars
    for name in ("lightning.pytorch", "lightning.fabric", "httpx", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", ".*dataloader is not resumable.*")  # its datamodule is
    warnings.filterwarnings("ignore", ".*recommended to use `self.log.*sync_dist.*")
    warnings.filterwarnings("ignore", ".*exists and is not empty.*")
    warnings.filterwarnings("ignore", ".*overridden `on_before_batch_transfer`.*")


def claim(run_dir: Path, writer: bool) -> Path:
    """Makes a run directory this run's own.

    Args:
        run_dir: made if it is not there.
        writer: whether this process writes, as rank 0 does.

    Raises:
        ThawError: a run has been there before.
    """
    run_dir = run_dir.absolute()
    if writer:
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            with open(run_dir / "versions.json", "x", encoding="utf-8") as file:
                names = {name: version(name) for name in LIBRARIES}
                names |= {"thaw": __version__, "python": platform.python_version()}
                json.dump(names, file, indent=2)
        except FileExistsError:
            raise ThawError(
                f"{run_dir} holds a run already: leave hydra.run.dir out, or name a new directory."
            ) from None
        except OSError as error:
            raise ThawError(
                f"{run_dir} cannot be written: {error.strerror}. hydra.run.dir=<directory> names "
                "another."
            ) from error
    return run_dir


def build_trainer(cfg: DictConfig) -> Trainer:
    """The Trainer with its loggers and callbacks."""
    loggers = [instantiate(node, _convert_="all") for node in cfg.logger.values() if node]
    callbacks = [instantiate(node, _convert_="all") for node in cfg.callbacks.values() if node]
    callbacks += [Clock(), Throughput()]
    has = {type(c).__name__ for c in callbacks}
    extra: dict[str, Any] = {}
    if "ModelCheckpoint" not in has:
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
    except (pl.utilities.exceptions.MisconfigurationException, ValueError, TypeError) as error:
        raise ThawError(f"trainer: {error}") from error


def fit(trainer: Trainer, task: Any, data: Any, cfg: DictConfig, run_dir: Path) -> dict[str, float]:
    """Trains, and puts the weights of the best checkpoint into the task.

    Returns:
        Validation metrics of the best checkpoint and before the first step, seconds, samples per
        second, memory.
    """
    before: dict[str, float] = {}
    if "validation" not in data.rows or trainer.limit_val_batches == 0:
        log.warning("no validation: the last weights are the result, nothing stops early")
        stop_watching(trainer)
    elif task.validates_first and cfg.ckpt_path is None:
        # Tensors made in inference mode, such as a metric's, could not be used in training.
        trainer.validate_loop.inference_mode = False
        trainer.validate(task, datamodule=data, verbose=False, weights_only=True)
        before = {
            k.replace("val/", "start/"): float(v) for k, v in trainer.callback_metrics.items()
        }
    began = time.monotonic()
    try:
        trainer.fit(task, datamodule=data, ckpt_path=cfg.ckpt_path, weights_only=True)
    except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into SystemExit(1)
        if trainer.is_global_zero:
            log.warning("%s", how_to_go_on(run_dir))
        raise SystemExit(130) from None
    except UnpicklingError as error:
        raise ThawError(
            f"ckpt_path={cfg.ckpt_path} is damaged, or holds more than tensors and plain values. "
            "To load it could run code, so thaw does not."
        ) from error
    clock = next(c for c in trainer.callbacks if isinstance(c, Clock))  # type: ignore[attr-defined]
    metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
    best = next((c for c in trainer.checkpoint_callbacks if getattr(c, "monitor", None)), None)
    if best is not None and best.best_model_path:  # type: ignore[attr-defined]
        path = best.best_model_path  # type: ignore[attr-defined]
        state = torch.load(path, map_location="cpu", weights_only=True)
        load_whole(task, state["state_dict"])
        metrics = state["val_metrics"]
        metrics["best_step"] = state["global_step"]
    metrics |= before
    metrics["steps"] = trainer.global_step
    if trainer.nonfinite.action == "skip":
        metrics["nonfinite_steps"] = trainer.nonfinite.steps
    metrics["fit_seconds"] = round(time.monotonic() - began, 2)
    metrics["train_seconds"] = round(clock.seconds, 2)
    metrics["samples_per_second"] = round(clock.samples / max(clock.seconds, 1e-9), 2)
    metrics["peak_memory_mib"] = round(peak_memory_mib(), 1)
    return metrics


def stop_watching(trainer: pl.Trainer) -> None:
    """Removes the callbacks that wait for a validation metric."""
    kept = [c for c in trainer.callbacks if not getattr(c, "monitor", None)]  # type: ignore[attr-defined]
    trainer.callbacks = kept  # type: ignore[attr-defined]


def how_to_go_on(run_dir: Path) -> str:
    """What to type after an interruption."""
    last = run_dir / "checkpoints" / "last.ckpt"
    if not last.exists():
        return f"Stopped before the first checkpoint; {run_dir} holds the log."
    kept = [a for a in sys.argv[1:] if not a.startswith(("ckpt_path=", "hydra.run.dir="))]
    command = shlex.join(["python", "train.py", *kept, f"ckpt_path={last}"])
    return f"Stopped. Best and last checkpoint are in {last.parent}. To go on:\n  {command}"


class Clock(pl.Callback):
    """Seconds spent in training batches, validation and checkpoints apart, and samples trained."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.samples = 0
        self.began = 0.0

    def on_train_epoch_start(self, *args: Any) -> None:
        self.began = time.monotonic()

    def on_validation_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.training or trainer.validating:
            self.pause()

    def on_validation_end(self, *args: Any) -> None:
        self.began = time.monotonic()

    def on_train_epoch_end(self, *args: Any) -> None:
        self.pause()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.samples += len(batch["row"]) * trainer.world_size

    def pause(self) -> None:
        if self.began:
            self.seconds += time.monotonic() - self.began
        self.began = 0.0
