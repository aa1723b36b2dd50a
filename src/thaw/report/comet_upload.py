"""Logs to Comet, at the end of a run, what report.html shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.report.mlflow_upload import FILES

if TYPE_CHECKING:
    from lightning.pytorch.loggers import CometLogger


def log_run_to_comet(logger: "CometLogger", metrics: Mapping[str, float], run_dir: Path) -> None:
    """Sends `metrics`, figures, predictions and report of a run, and ends the experiment."""
    logger.log_metrics(dict(metrics), step=int(metrics.get("steps", 0)))
    for pattern in FILES:
        for path in sorted(run_dir.glob(pattern)):
            logger.experiment.log_asset(str(path), file_name=path.name)
    logger.experiment.end()
