"""A run: config -> directory -> data -> task -> trainer -> fit -> test -> results."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.loggers import CometLogger, MLFlowLogger, WandbLogger
from omegaconf import DictConfig

from thaw.cli.check import checked, find_on_hub, model_text, plain
from thaw.cli.conf import choices
from thaw.cli.watched_metric import require_watched
from thaw.encoder.blocks import parameter_table
from thaw.encoder.freeze import FreezeStrategy
from thaw.encoder.sharding import load_whole
from thaw.errors import ThawError
from thaw.evaluate import run_test
from thaw.report.tracker_upload import log_run_to_comet, log_run_to_mlflow
from thaw.storage.checkpoints import fetch_model
from thaw.training.callbacks.nonfinite_guard import NonFiniteGuard
from thaw.training.callbacks.plan import trained, why_ended
from thaw.training.callbacks.throughput import peak_memory_mib, restart_peak
from thaw.training.callbacks.timer import TrainingTimer
from thaw.training.libraries import keep_freed_memory, silence_libraries
from thaw.training.machine_errors import explained
from thaw.training.run_dir import Run, open_run, start_run_dir
from thaw.training.trainer import Trainer

log = logging.getLogger(__name__)


def train(cfg: DictConfig, typed: Sequence[str] | None = None) -> float | None:
    """Runs a composed config, which is checked unless it has been, and leaves a run directory that
    stands alone. Returns the best value of the watched metric, or None without validation.

    Args:
        cfg: `conf/train.yaml`, composed.
        typed: the user's overrides that this task must read; None: Hydra's.

    Raises:
        ThawError: the config, the data or the checkpoint does not fit.
    """
    cfg = checked(cfg, typed)
    silence_libraries()
    keep_freed_memory()
    restart_peak()
    find_on_hub(cfg)
    with open_run(cfg) as run:
        checkpoint = fetch_model(plain(cfg.model).get("checkpoint"), cfg.model.revision)
        data = build_data(cfg, checkpoint)
        data.setup("fit")
        task = build_task(cfg, checkpoint, data, instantiate(cfg.freeze, _convert_="all"))
        require_watched(plain(cfg), task.logged_metrics())
        validated = validates(cfg, data)
        task.require_data(data, validated)
        trainer = build_trainer(cfg, run, validated)
        announce(run, data, task, trainer)
        start_run_dir(run, cfg)
        with explained(cfg, run.dir):
            fit(trainer, task, data, run, validated)
            best = load_best(trainer, task) | fit_metrics(trainer, task) | task.decide(data)
            tests = "test" in data.rows and trainer.limit_test_batches != 0
            test = run_test(trainer, task, data) if tests else None
            task.gather_weights()
            return write_results(run, trainer, task, data, best, test).get(cfg.monitor)


def build_data(cfg: DictConfig, checkpoint: Any) -> Any:
    """Returns the datamodule of a config, which has read nothing yet."""
    return instantiate(cfg.data, tokenizer=checkpoint, seed=cfg.seed, _convert_="all")


def build_task(cfg: DictConfig, checkpoint: Any, data: Any, freeze: FreezeStrategy) -> Any:
    """Returns the task of a config, with what the data says, such as labels."""
    # After the data, so that the head's weights follow from the seed alone.
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    given = {"checkpoint": checkpoint, "freeze": freeze, "seed": cfg.task.get("seed", cfg.seed)}
    given["gradient_checkpointing"] = cfg.model.gradient_checkpointing
    for name in ("optimizer", "schedule"):  # made later, of parameters
        given[name] = instantiate(cfg[name], _convert_="all", _partial_=True)
    return instantiate(cfg.task, _convert_="all", **given, **data.task_kwargs())


def validates(cfg: DictConfig, data: Any) -> bool:
    """Returns whether training validates; says so if it does not."""
    if "validation" in data.rows and cfg.trainer.limit_val_batches != 0:
        return True
    log.warning("no validation: the last weights are the result, nothing stops early")
    return False


def build_trainer(cfg: DictConfig, run: Run, validates: bool = True) -> Trainer:
    """Returns the Trainer with its loggers and callbacks; without a validation, those that watch
    its metric are left out."""
    loggers = build_loggers(cfg, run)
    callbacks = [instantiate(node, _convert_="all") for node in cfg.callbacks.values() if node]
    if not validates:
        callbacks = [c for c in callbacks if not getattr(c, "monitor", None)]
    if not cfg.trainer.enable_progress_bar:
        callbacks = [c for c in callbacks if not isinstance(c, pl.callbacks.ProgressBar)]
    if not loggers:
        callbacks = [c for c in callbacks if not isinstance(c, pl.callbacks.LearningRateMonitor)]
    saves = any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks)
    extra = {} if saves else {"enable_checkpointing": False}
    try:
        return instantiate(
            cfg.trainer, logger=loggers or False, callbacks=callbacks, _convert_="all", **extra
        )
    except InstantiationException as error:  # Hydra wraps what a constructor raises
        reason = error.__cause__ or error
        own = isinstance(reason, ThawError)
        raise ThawError(str(reason) if own else f"trainer: {reason}") from error


def build_loggers(cfg: DictConfig, run: Run) -> list[Any]:
    """Returns the loggers; those of TensorBoard drop what a resumed run will log again."""
    found = []
    for name, node in cfg.logger.items():
        if not node:
            continue
        resumed = run.logged_rows is not None and node._target_.endswith(".TensorBoardLogger")
        extra = {"purge_step": run.logged_rows} if resumed else {}
        try:
            found.append(instantiate(node, _convert_="all", **extra))
        except InstantiationException as error:
            if not isinstance(error.__cause__, ModuleNotFoundError):
                raise
            what = f": pip install -e '.[{name}]'." if name in choices("logger") else "."
            raise ThawError(f"logger={name} is not installed{what} ({error.__cause__})") from error
    return found


def announce(run: Run, data: Any, task: Any, trainer: Trainer) -> None:
    """Logs what is about to be trained, on what and where; loggers get the whole config."""
    log.info("data %s: %s", data.name, ", ".join(f"{v} {k}" for k, v in data.sizes().items()))
    log.info("%s", parameter_table(task))
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    total = sum(p.numel() for p in task.parameters())
    name = model_text(run.config["model"])
    log.info("model %s: %s of %s parameters train", name, f"{trained:,}", f"{total:,}")
    log.info("run %s", run.dir)
    for logger in trainer.loggers:
        logger.log_hyperparams(dict(run.config))


def fit(trainer: Trainer, task: Any, data: Any, run: Run, validated: bool) -> None:
    """Trains, after a validation where the task asks for one, and says why training ended."""
    if validated and task.validates_first and run.ckpt_path is None:
        # Tensors made in inference mode, such as a metric's, could not be used in training.
        trainer.validate_loop.inference_mode = False
        trainer.validate(task, datamodule=data, verbose=False, weights_only=True)
    trainer.fit(task, datamodule=data, ckpt_path=run.ckpt_path, weights_only=True)
    early = trainer.current_epoch == trainer.max_epochs and trainer.global_step < trainer.max_steps
    level = logging.WARNING if early else logging.INFO
    log.log(level, "epochs trained: %s; training ended: %s", trained(trainer), why_ended(trainer))


def load_best(trainer: Trainer, task: Any) -> dict[str, float]:
    """Puts the weights of the best checkpoint into the task, where one was kept, and returns the
    validation metrics of the task's weights, and the step that they are of."""
    callbacks: Any = trainer.checkpoint_callbacks
    best = next((c for c in callbacks if getattr(c, "monitor", None)), None)
    if best is None or not best.best_model_path:
        return dict(task.val_metrics)
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    load_whole(task, state["state_dict"])
    step = state["global_step"]
    log.info("the weights of step %d are the result, the best by %s", step, best.monitor)
    return state["val_metrics"] | {"best_step": step}


def fit_metrics(trainer: Trainer, task: Any) -> dict[str, float]:
    """Returns the metrics before the first step, and what training took."""
    metrics = task.start_metrics | {"steps": trainer.global_step}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, NonFiniteGuard | TrainingTimer):
            metrics |= callback.metrics()
    return metrics | {"peak_memory_mib": round(peak_memory_mib(), 1)}


def write_results(
    run: Run, trainer: Trainer, task: Any, data: Any, best: dict[str, float], test: Any
) -> dict[str, float]:
    """Writes the run directory, and the same to W&B, MLflow and Comet; in the first process only.
    Returns all metrics, in other processes those that they know."""
    if not run.writes:
        return best
    from thaw.report.run import write_run  # figures: not in memory while training

    metrics, findings = write_run(run, task, data, best, test)
    rest = not_yet_logged(metrics, trainer.logged_metrics)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            from thaw.report.wandb_upload import log_run_to_wandb

            log_run_to_wandb(logger, findings, metrics, run.dir)
        elif isinstance(logger, MLFlowLogger):
            log_run_to_mlflow(logger, findings, rest, run.dir)
        elif isinstance(logger, CometLogger):
            log_run_to_comet(logger, rest, run.dir)
    return metrics


def not_yet_logged(metrics: dict[str, float], logged: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics of a run that its test did not log; those of the validation, which have
    a curve of their own, as `best/val/...`."""
    named = {f"best/{k}" if k.startswith("val/") else k: v for k, v in metrics.items()}
    return {name: value for name, value in named.items() if name not in logged}
