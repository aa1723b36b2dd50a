"""Logs to W&B, at the end of a run, what report.html shows. Loads wandb, which takes a second."""

import csv
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger

from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.report.sections import Counts, Findings, Image, Table, cell_text
from thaw.training.loggers import LateWandb, wandb_logger

PREDICTIONS = 10_000  # rows of the table of predictions


def log_run_to_wandb(
    logger: WandbLogger, found: Findings, metrics: Mapping[str, float], run_dir: Path
) -> None:
    """Sends tables, charts and report of a run, and with `logger.wandb.log_model=true` its model;
    then ends the run of W&B, which the next job of a sweep would go on with."""
    run = logger.start() if isinstance(logger, LateWandb) else logger.experiment
    run.summary.update(dict(found.facts) | dict(metrics))
    parts: dict[str, Any] = {"report": wandb.Html(str(run_dir / "report.html"), inject=False)}
    for table in found.scores:
        parts[table.title] = as_wandb(table)
        if table.title == "per label":
            parts |= bars(table)
    for section in found.sections:
        if isinstance(section, Image):
            if section.png:
                parts[section.file] = wandb.Image(str(run_dir / section.file))
        elif isinstance(section, Counts):
            parts |= chart(section)
        else:
            parts[section.title] = as_wandb(section.table())
    rows = list(islice(predictions(run_dir), PREDICTIONS))
    if rows:
        columns = list(rows[0])
        cells = [[row.get(name) for name in columns] for row in rows]
        parts["predictions"] = as_wandb(Table("predictions", columns, cells))
    run.log(parts)
    if getattr(logger, "log_exported_model", False):
        artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=dict(metrics))
        artifact.add_dir(str(run_dir / "model"))
        run.log_artifact(artifact, aliases=["best", "latest"])
    run.finish()


def log_sweep_to_wandb(project: str, sweep: Path) -> None:
    """Sends table, figure and report of a sweep as a run of its group."""
    options: dict[str, Any] = {"project": project, "group": sweep.name, "name": "summary"}
    run = wandb_logger(str(sweep), job_type="summary", **options).start()
    with open(sweep / "summary.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    run.log(
        {
            "summary": wandb.Table(columns=[*header], data=rows),
            "figure": wandb.Image(str(sweep / "summary.png")),
            "report": wandb.Html(str(sweep / "report.html"), inject=False),
        }
    )
    run.finish()


def as_wandb(table: Table) -> Any:
    """Returns a table as a `wandb.Table`, with cells that are not numbers as text."""
    names: list[str | int] = [*table.columns]
    rows = [
        [cell if isinstance(cell, int | float) else cell_text(cell) for cell in row]
        for row in table.rows
    ]
    return wandb.Table(columns=names, data=rows, allow_mixed_types=True)


def bars(table: Table) -> dict[str, Any]:
    """Returns a bar chart for each score of the table of labels, without those that have none."""
    name, *scores = table.columns
    known = [row for row in table.rows if all(isinstance(cell, int | float) for cell in row[1:])]
    return {
        f"{score} per label": wandb.plot.bar(
            wandb.Table(columns=[name, score], data=[[row[0], row[n]] for row in known]),
            name,
            score,
            title=f"{score} per label",
        )
        for n, score in enumerate(scores, start=1)
        if score != "support"
    }


def chart(section: Counts) -> dict[str, Any]:
    """Returns a confusion matrix as W&B's own chart, and other counts as a table."""
    if not section.square:
        return {section.title: as_wandb(section.table())}
    names = ["Actual", "Predicted", "nPredictions"]  # columns that W&B's chart expects
    cells = [
        [gold, predicted, section.counts[i][j]]
        for i, gold in enumerate(section.rows)
        for j, predicted in enumerate(section.columns)
    ]
    drawn = wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=[*names], data=cells),
        {name: name for name in names},
        {"title": section.title},
    )
    return {section.title: drawn}


def predictions(run_dir: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a run's predictions.parquet or predictions.jsonl."""
    table, lines = run_dir / "predictions.parquet", run_dir / "predictions.jsonl"
    if table.exists():
        yield from rows_of(table, Reading())
    elif lines.exists():
        for row in rows_of(lines, Reading()):
            yield {
                k: " ".join(v) if k in ("gold", "predicted") else v
                for k, v in row.items()
                if k not in ("tokens", "offsets")
            }
