"""Logs to MLflow, at the end of a run, what report.html shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.report.sections import Counts, Findings, Section, Sentences, Table, cell_text

if TYPE_CHECKING:
    from lightning.pytorch.loggers import MLFlowLogger

FILES = ("report.html", "data.json", "*.png", "predictions.*", "errors.jsonl", "probes.json")


def log_run_to_mlflow(
    logger: "MLFlowLogger", found: Findings, metrics: Mapping[str, float], run_dir: Path
) -> None:
    """Sends scores, tables, figures and report of a run, and with `logger.mlflow.log_model=true`
    its model; then ends the run of MLflow."""
    client, run_id = logger.experiment, str(logger.run_id)
    logger.log_metrics(dict(metrics), step=int(metrics.get("steps", 0)))
    for section in [*found.scores, *found.sections]:
        table = as_table(section)
        columns = {
            name: [cell_text(row[i]) if isinstance(row[i], list) else row[i] for row in table.rows]
            for i, name in enumerate(table.columns)
        }
        client.log_table(run_id, columns, f"tables/{table.title}.json")
    for pattern in FILES:
        for path in sorted(run_dir.glob(pattern)):
            client.log_artifact(run_id, str(path))
    if getattr(logger, "log_exported_model", False):
        client.log_artifacts(run_id, str(run_dir / "model"), "model")
    logger.finalize("success")


def as_table(section: Section) -> Table:
    """Returns a section of the report as a table."""
    if isinstance(section, Sentences):
        return section.table()
    if not isinstance(section, Counts):
        return section
    rows = [[name, *line] for name, line in zip(section.rows, section.counts, strict=True)]
    return Table(section.title, [section.down, *section.columns], rows)
