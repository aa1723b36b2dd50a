"""Logs to MLflow and Comet, at the end of a run, what report.html shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CometLogger, MLFlowLogger

from thaw.report.sections import Findings, Image, cell_text

FILES = ("report.html", "data.json", "*.png", "predictions.*", "errors.jsonl", "probes.json")


def log_run_to_mlflow(
    logger: MLFlowLogger, found: Findings, metrics: Mapping[str, float], run_dir: Path
) -> None:
    """Sends `metrics`, tables, figures and report of a run, and with `logger.mlflow.log_model=true`
    its model; then ends the run of MLflow."""
    client, run_id = logger.experiment, str(logger.run_id)
    for name, value in found.facts:
        client.set_tag(run_id, name, value)
    logger.log_metrics(dict(metrics), step=int(metrics.get("steps", 0)))
    tables = [s for s in found.sections if not isinstance(s, Image)]  # images are among the files
    for section in [*found.scores, *tables]:
        table = section.table()
        columns: dict[str, list[Any]] = {}
        for i, name in enumerate(table.columns):
            cells = [row[i] for row in table.rows]
            unique = f"{name}_{i}" if name in columns else str(name)  # a class may be called "true"
            columns[unique] = [cell_text(c) if isinstance(c, list | tuple) else c for c in cells]
        client.log_table(run_id, columns, f"tables/{table.title}.json")
    for pattern in FILES:
        for path in sorted(run_dir.glob(pattern)):
            client.log_artifact(run_id, str(path))
    if getattr(logger, "log_exported_model", False):
        client.log_artifacts(run_id, str(run_dir / "model"), "model")
    logger.finalize("success")


def log_run_to_comet(logger: CometLogger, metrics: Mapping[str, float], run_dir: Path) -> None:
    """Sends `metrics`, figures, predictions and report of a run, and ends the experiment."""
    logger.log_metrics(dict(metrics), step=int(metrics.get("steps", 0)))
    for pattern in FILES:
        for path in sorted(run_dir.glob(pattern)):
            logger.experiment.log_asset(str(path), file_name=path.name)
    logger.experiment.end()
