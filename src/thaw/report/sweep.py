"""Summarizes the jobs of a sweep (`-m`), whatever was swept.

This module does not import torch, because Hydra loads it with every command.
"""

import csv
import json
import logging
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from thaw.cli.exit import fail
from thaw.cli.jobs import FAILED, Job, read_jobs
from thaw.cli.processes import launch
from thaw.cli.secrets import redacted_text
from thaw.errors import ThawError
from thaw.report.sections import Table, headline
from thaw.storage.files import atomic, write_atomic

log = logging.getLogger(__name__)
SECONDS = "fit_seconds"
AVERAGED = ("seed", "data.fold")  # keys that mean and standard deviation are taken over


class Summary(Callback):
    """Writes the summary of a sweep, and ends it with exit code 1 if a job failed.

    A failed job does not stop the others. A launcher that runs jobs in other processes pickles this
    callback; unpickling constructs it again, which registers the resolvers in that process.
    """

    def __init__(self) -> None:
        from thaw.cli.compose import register_resolvers

        register_resolvers()

    def __reduce__(self) -> Any:
        return Summary, ()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if started := launch():
            fail(
                f"{started.by} has started {started.world_size} processes, and each would run this "
                "sweep: start it without, with trainer.devices, or with an engine."
            )
        if config.resume is not None and not (Path(config.resume) / "multirun.yaml").is_file():
            fail(f"resume={config.resume}: no sweep there, such as multirun/<date>/<time>.")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN or job_return.status != JobStatus.FAILED:
            return
        error = job_return._return_value
        if isinstance(error.__cause__, ThawError):  # Hydra wraps what a constructor raises
            error = error.__cause__
        reason = str(error) if isinstance(error, ThawError) else f"{type(error).__name__}: {error}"
        directory = Path(config.hydra.runtime.output_dir)
        write_atomic(directory / FAILED, json.dumps({"reason": redacted_text(reason)}) + "\n")
        log.error("failed: %s", reason, exc_info=None if isinstance(error, ThawError) else error)
        # Hydra would raise the error after all jobs, and would not call on_multirun_end.
        job_return.status, job_return.return_value = JobStatus.COMPLETED, float("nan")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        sweep = Path(config.hydra.sweep.dir)
        jobs = read_jobs(sweep)
        summarize(sweep, jobs, str(config.monitor))
        log_summary_to_wandb(config, sweep)
        print(f"sweep directory: {sweep}")
        if bad := [job for job in jobs if job.status != "done"]:
            print(f"thaw: {len(bad)} of {len(jobs)} jobs did not finish", file=sys.stderr)
            sys.exit(1)  # an Exception would become a warning here


def summarize(sweep: Path, jobs: Sequence[Job], monitor: str) -> None:
    """Writes the summary of a sweep as CSV, Markdown, PNG and report.html, and prints it.

    Args:
        sweep: directory of the sweep.
        jobs: jobs of the sweep.
        monitor: name of the watched metric; the summary has the test's metric of that name if there
            is one.
    """
    keys = swept(jobs)
    score = score_of(jobs, monitor)
    write_csv(sweep / "summary.csv", jobs, keys)
    table = groups(jobs, keys, score)
    write_atomic(sweep / "summary.md", markdown(jobs, keys, table, score))
    print("\n" + (sweep / "summary.md").read_text(encoding="utf-8"))
    if table:
        from thaw.report.sweep_figures import sweep_figure

        sweep_figure(points(keys, table), axes(keys), score, sweep / "summary.png")
    write_page(sweep, jobs, monitor)


def write_page(
    sweep: Path, jobs: Sequence[Job], monitor: str, sections: Sequence[Table] = ()
) -> None:
    """Writes the report.html of a sweep.

    Args:
        sweep: directory of the sweep.
        jobs: jobs of the sweep.
        monitor: name of the watched metric, see `summarize`.
        sections: further tables below the jobs.
    """
    from thaw.report.html_page import sweep_page

    keys, score = swept(jobs), score_of(jobs, monitor)
    table, panels = groups(jobs, keys, score), list[str]()
    if table:
        from thaw.report.figures import svg
        from thaw.report.sweep_figures import sweep_panels

        drawn, lines = sweep_panels(points(keys, table), axes(keys), score)
        panels = [svg(panel, 3.4 + 0.2 * lines) for panel in drawn]
    reports = {job.name for job in jobs if (sweep / job.name / "report.html").exists()}
    summary = summary_table(keys, table, score)
    page = sweep_page(sweep.name, jobs, keys, summary, panels, reports, sections)
    write_atomic(sweep / "report.html", page)


def swept(jobs: Sequence[Job]) -> list[str]:
    """Returns the keys whose values differ between jobs, in the order they were typed."""
    typed = dict.fromkeys(key for job in jobs for key in job.values)
    return [key for key in typed if len({job.values.get(key) for job in jobs}) > 1]


def axes(keys: Sequence[str]) -> list[str]:
    """Returns the swept keys without seed and fold, or with them if nothing else is swept."""
    return [key for key in keys if key not in AVERAGED] or list(keys)


def score_of(jobs: Sequence[Job], monitor: str) -> str:
    """Returns the metric of the summary: `headline` of the first finished job, else `monitor`."""
    first = next((job.metrics for job in jobs if job.metrics), {})
    return headline(first, monitor) or monitor


Row = tuple[tuple[str, ...], list[float], list[float]]  # values of `axes`, scores, seconds


def groups(jobs: Sequence[Job], keys: Sequence[str], score: str) -> list[Row]:
    """Returns scores and seconds of the finished jobs, grouped by the values of `axes(keys)`."""
    found: dict[tuple[str, ...], tuple[list[float], list[float]]] = {}
    for job in jobs:
        if score in job.metrics:
            group = tuple(job.values.get(key, "") for key in axes(keys))
            scores, seconds = found.setdefault(group, ([], []))
            scores.append(job.metrics[score])
            seconds.append(job.metrics.get(SECONDS, float("nan")))
    order = sorted(found, key=lambda group: [sortable(value) for value in group])
    return [(group, *found[group]) for group in order]


def points(keys: Sequence[str], table: Sequence[Row]) -> list[Any]:
    """Returns groups as the figures take them, with the values of their keys by name."""
    return [(dict(zip(axes(keys), g, strict=True)), s, t) for g, s, t in table]


def sortable(value: str) -> tuple[bool, float, str]:
    """Returns a sort key that orders numbers by value and puts other values after them."""
    try:
        return False, float(value), ""
    except ValueError:
        return True, 0.0, value


def write_csv(path: Path, jobs: Sequence[Job], keys: Sequence[str]) -> None:
    """Writes a row for each job: status, swept values, metrics, and why it failed."""
    metrics = list(dict.fromkeys(key for job in jobs for key in job.metrics))
    with atomic(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["job", "status", *keys, *metrics, "reason"])
        for job in jobs:
            values = [job.values.get(key, "") for key in keys]
            numbers = [job.metrics.get(key, "") for key in metrics]
            writer.writerow([job.name, job.status, *values, *numbers, job.reason])


def markdown(jobs: Sequence[Job], keys: Sequence[str], table: Sequence[Row], score: str) -> str:
    """Returns the summary in Markdown: a row for each group, and the jobs that did not finish."""
    summary = summary_table(keys, table, score)
    lines = [f"| {' | '.join(summary.columns)} |", f"|{'---|' * len(summary.columns)}"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in summary.rows]
    if bad := [job for job in jobs if job.status != "done"]:
        lines += ["", "| job | " + " | ".join(keys) + " | status | reason |"]
        lines.append(f"|{'---|' * (len(keys) + 3)}")
        for job in bad:
            values = [job.values.get(key, "") for key in keys]
            reason = " ".join(job.reason.split()).replace("|", "\\|")
            lines.append(f"| {' | '.join([job.name, *values, job.status, reason])} |")
    return "\n".join(lines) + "\n"


def summary_table(keys: Sequence[str], table: Sequence[Row], score: str) -> Table:
    """Returns a table with mean and standard deviation of each group.

    If only seeds or folds were swept, each run has a row, and the row "all" has their mean.
    """
    if len(table) > 1 and set(keys) <= set(AVERAGED):
        every = ("all", *[""] * (len(axes(keys)) - 1))
        scores = [value for _, values, _ in table for value in values]
        table = [*table, (every, scores, [value for _, _, values in table for value in values])]
    rows = [
        [*group, len(scores), spread(scores, 4), spread(seconds, 1)]
        for group, scores, seconds in table
    ]
    return Table(score, (*axes(keys), "runs", score, "seconds"), rows)


def spread(values: Sequence[float], digits: int) -> str:
    """Returns the mean as text, and the standard deviation if there are several values."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def log_summary_to_wandb(config: DictConfig, sweep: Path) -> None:
    """Logs table, figure and report to W&B as a run of the sweep's group, if the jobs log there."""
    node: Mapping[str, Any] | None = config.logger.get("wandb") if config.logger else None
    if not node or not (sweep / "summary.png").exists():
        return
    import wandb

    from thaw.training.loggers import wandb_logger

    options = {"project": node["project"], "group": sweep.name, "name": "summary"}
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
