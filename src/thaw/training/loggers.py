"""Loggers that a resumed run continues."""

import csv
import logging
import netrc
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from thaw.cli.secrets import redacted_argv
from thaw.storage.files import atomic, write_atomic

log = logging.getLogger(__name__)


class CSV(CSVLogger):
    """Lightning's CSVLogger, which appends to an existing metrics.csv."""

    @property
    def experiment(self) -> Any:
        """The writer of metrics.csv; see CSVLogger."""
        if self._experiment is None and not rank_zero_only.rank:  # type: ignore[attr-defined]
            self._experiment = Rows(self.log_dir)
        return super().experiment


class Rows(ExperimentWriter):
    """Lightning's writer, which keeps existing rows and replaces the file as a whole."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        path = Path(self.metrics_file_path)
        if path.exists():
            with open(path, newline="", encoding="utf-8") as file:
                self.metrics_keys = next(csv.reader(file), [])

    def _check_log_dir_exists(self) -> None:
        """Lightning's removes metrics.csv."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        keep_rows(Path(self.metrics_file_path), None, fieldnames)


def keep_rows(path: Path, below: int | None, columns: Sequence[str] = ()) -> None:
    """Rewrites metrics.csv, if it exists: without the rows from step `below` on (None: all stay),
    and with other names of columns, if any are given."""
    if not path.exists():
        return
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names = list(columns or reader.fieldnames or [])
        rows = list(reader)
    if below is not None:
        # A row that a kill cut off comes after the last checkpoint.
        rows = [row for row in rows if (row["step"] or "").isdigit() and int(row["step"]) < below]
    with atomic(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


class MLFlow(MLFlowLogger):
    """Lightning's MLFlowLogger, which a resumed run goes on with; without `MLFLOW_TRACKING_URI` it
    writes to mlflow.db and mlruns/ of the working directory, MLflow's own default.

    Args:
        save_dir: run directory, which keeps the id of the MLflow run.
        log_model: whether the run's model/ is logged at the end; Lightning's `log_model` would log
            checkpoints.
        options: options of `lightning.pytorch.loggers.MLFlowLogger`.
    """

    def __init__(self, save_dir: str, log_model: bool = False, **options: Any) -> None:
        self.kept_id = Path(save_dir) / "mlflow_id.txt"
        self.resumed = self.kept_id.exists() and (Path(save_dir) / "versions.json").exists()
        self.log_exported_model = log_model
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        run_id = self.kept_id.read_text(encoding="utf-8") if self.resumed else None
        super().__init__(**{"tracking_uri": uri, "run_id": run_id} | options)
        self.last_steps: dict[str, int] | None = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs what the run had not logged, under Lightning's names, before it was resumed: MLflow
        would keep both."""
        if self.last_steps is None:
            names = self.experiment.get_run(self.run_id).data.metrics if self.resumed else ()
            points = {n: self.experiment.get_metric_history(self.run_id, n) for n in names}
            self.last_steps = {n: max(p.step for p in points[n]) for n in names}
        named = {re.sub("[^a-zA-Z0-9_/. -]+", "", name): v for name, v in metrics.items()}
        new = {k: v for k, v in named.items() if step is None or step > self.last_steps.get(k, -1)}
        super().log_metrics(new, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        if not self.resumed:  # MLflow refuses other values, such as that of `resume`
            super().log_hyperparams(params)
            write_atomic(self.kept_id, str(self.run_id))


class LateWandb(WandbLogger):
    """Lightning's WandbLogger, offline without `WANDB_MODE`, an API key or a login.

    It starts its W&B run with the first numbers, as importing and starting W&B takes 1.5 seconds.
    The run directory keeps its id, with which a resumed run continues it.

    Args:
        save_dir: run directory.
        log_model: whether the run's model/ is uploaded as an artifact at the end; Lightning's
            `log_model` would upload checkpoints.
        options: options of `lightning.pytorch.loggers.WandbLogger`.
    """

    def __init__(self, save_dir: str, log_model: bool = False, **options: Any) -> None:
        self.mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
        Path(save_dir).mkdir(parents=True, exist_ok=True)
        super().__init__(save_dir=save_dir, offline=self.mode == "offline", **options)
        self.log_exported_model = log_model
        self.waiting: list[Any] = []
        self.wanted = False

    def log_hyperparams(self, params: Any) -> None:
        if self._experiment is None:
            self.waiting.append(params)
        else:
            super().log_hyperparams(params)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.start()
        super().log_metrics(metrics, step)

    def start(self) -> Any:
        """Starts the W&B run, unless it has started, and returns it."""
        self.wanted = True
        return self.experiment

    @property
    def experiment(self) -> Any:
        """The W&B run; see WandbLogger. Raises AttributeError until it has started: Lightning
        starts every logger that has an experiment before the first step."""
        if self._experiment is not None or rank_zero_only.rank:  # type: ignore[attr-defined]
            return super().experiment
        if not self.wanted:
            raise AttributeError("W&B starts with the first numbers; start() starts it before.")
        if self._wandb_init.get("id") is None:
            self._wandb_init["id"] = self.kept_id()
        with redacted_argv():  # W&B keeps the command line
            run = self.started()
        for params in self.waiting:
            super().log_hyperparams(params)
        return run

    def started(self) -> Any:
        """Starts the run, offline if W&B cannot be reached or refuses the key, and returns it."""
        import wandb

        self._wandb_init["settings"] = wandb_settings(self.mode)
        try:
            return super().experiment
        except (wandb.Error, ValueError) as error:
            if self.mode == "offline":
                raise
            reason = str(error).splitlines()[0][:200]
            log.warning(
                "W&B does not take this run (%s): it is kept in %s/wandb, and `wandb sync` uploads "
                "it later",
                reason,
                self.save_dir,
            )
        self.mode = "offline"
        wandb.teardown()
        self._wandb_init["settings"] = wandb_settings(self.mode)
        try:
            return super().experiment
        except Exception as error:  # W&B's own process raises none of wandb's errors
            if "is in use" not in str(error):
                raise
        # The start that was refused still holds the id in W&B's own process, now and then.
        self._wandb_init["id"] = self.kept_id(new=True)
        return super().experiment

    def kept_id(self, new: bool = False) -> str:
        """Returns the id of the W&B run that the run directory keeps, a `new` one if asked for; in
        a trial of W&B Sweeps it is the agent's."""
        kept = Path(str(self.save_dir)) / "wandb_id.txt"
        if new or not kept.exists():
            trial = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
            write_atomic(kept, (not new and trial) or secrets.token_hex(4))
        return kept.read_text(encoding="utf-8")


wandb_logger = LateWandb  # its name in configs


def wandb_settings(mode: str) -> Any:
    """Returns settings of W&B without prompts, code and the terminal's output."""
    import wandb

    settings = wandb.Settings(
        mode=mode,  # type: ignore[arg-type]
        console="off",
        quiet=True,
        silent=mode == "offline",
        save_code=False,
        disable_git=True,
        # Seconds that a run waits for W&B; 90 by default.
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", 20)),
    )
    if mode == "offline":
        # Lightning passes an argument that W&B warns of before it reads a run's settings.
        wandb.setup(settings)
    return settings


def has_key() -> bool:
    """Returns whether W&B finds an API key in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
