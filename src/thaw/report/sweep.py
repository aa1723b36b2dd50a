"""What `-m` leaves besides its runs: a summary of them, whatever was swept. And how a sweep is
taken up that was stopped, or that has more values now.

No torch here: `train.py` asks whether a job is done before anything is loaded.
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

from thaw.cli.jobs import FAILED, Job, read_jobs
from thaw.cli.messages import fail
from thaw.cli.processes import launch
from thaw.cli.secrets import redacted_text
from thaw.errors import ThawError
from thaw.report.sections import Table, headline
from thaw.storage.files import atomic, write_atomic

log = logging.getLogger(__name__)
SECONDS = "fit_seconds"
AVERAGED = ("seed", "data.fold")  # what a mean and its spread are over


class Summary(Callback):
    """Writes summary.csv, summary.md and summary.png of a sweep, and ends it with exit code 1 if a
    job failed. A failed job does not stop the others.

    A launcher that runs jobs in other processes sends it there; it is made anew, and with it what
    the names of directories are resolved with."""

    def __init__(self) -> None:
        from thaw.cli.resolvers import register_resolvers

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
        reason = str(error) if isinstance(error, ThawError) else f"{type(error).__name__}: {error}"
        directory = Path(config.hydra.runtime.output_dir)
        write_atomic(directory / FAILED, json.dumps({"reason": redacted_text(reason)}) + "\n")
        log.error("failed: %s", reason, exc_info=None if isinstance(error, ThawError) else error)
        # Hydra would raise it once all jobs ran, and on_multirun_end would not be called.
        job_return.status, job_return.return_value = JobStatus.COMPLETED, float("nan")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        sweep = Path(config.hydra.sweep.dir)
        jobs = read_jobs(sweep)
        summarize(sweep, jobs, str(config.monitor))
        share(config, sweep)
        print(f"sweep directory: {sweep}")
        if bad := [job for job in jobs if job.status != "done"]:
            print(f"thaw: {len(bad)} of {len(jobs)} jobs did not finish", file=sys.stderr)
            sys.exit(1)  # an Exception would become a warning here


def summarize(sweep: Path, jobs: Sequence[Job], monitor: str) -> None:
    """Writes the summary of a sweep, and its report.html with links to those of its jobs.

    Args:
        sweep: its directory.
        jobs: of `read_jobs`.
        monitor: the watched metric; the score is the test's of the same name, where there is one.
    """
    keys = swept(jobs)
    score = score_of(jobs, monitor)
    write_csv(sweep / "summary.csv", jobs, keys)
    table = groups(jobs, keys, score)
    write_atomic(sweep / "summary.md", markdown(jobs, keys, table, score))
    print("\n" + (sweep / "summary.md").read_text(encoding="utf-8"))
    panels: list[str] = []
    if table:
        from thaw.report.figures import svg, sweep_figure, sweep_panels

        rows = [(dict(zip(axes(keys), g, strict=True)), s, t) for g, s, t in table]
        sweep_figure(rows, axes(keys), score, sweep / "summary.png")
        drawn, lines = sweep_panels(rows, axes(keys), score)
        panels = [svg(panel, 3.4 + 0.2 * lines) for panel in drawn]
    from thaw.report.html_page import sweep_page

    reports = {job.name for job in jobs if (sweep / job.name / "report.html").exists()}
    page = sweep_page(sweep.name, jobs, keys, summary_table(keys, table, score), panels, reports)
    (sweep / "report.html").write_text(page, encoding="utf-8")


def swept(jobs: Sequence[Job]) -> list[str]:
    """The keys whose values differ between jobs, in the order they were typed."""
    typed = dict.fromkeys(key for job in jobs for key in job.values)
    return [key for key in typed if len({job.values.get(key) for job in jobs}) > 1]


def axes(keys: Sequence[str]) -> list[str]:
    """The swept keys but seed and fold; those where nothing else is swept."""
    return [key for key in keys if key not in AVERAGED] or list(keys)


def score_of(jobs: Sequence[Job], monitor: str) -> str:
    """The metric of the summary: the test's, else validation's, else the first that all have."""
    first = next((job.metrics for job in jobs if job.metrics), {})
    return headline(first, monitor) or monitor


Row = tuple[tuple[str, ...], list[float], list[float]]


def groups(jobs: Sequence[Job], keys: Sequence[str], score: str) -> list[Row]:
    """Scores and seconds of the finished jobs by the values of the swept keys, seeds and folds
    together."""
    found: dict[tuple[str, ...], tuple[list[float], list[float]]] = {}
    for job in jobs:
        if score in job.metrics:
            group = tuple(job.values.get(key, "") for key in axes(keys))
            scores, seconds = found.setdefault(group, ([], []))
            scores.append(job.metrics[score])
            seconds.append(job.metrics.get(SECONDS, float("nan")))
    order = sorted(found, key=lambda group: [sortable(value) for value in group])
    return [(group, *found[group]) for group in order]


def sortable(value: str) -> tuple[bool, float, str]:
    """A key that orders numbers by value and puts words after them."""
    try:
        return False, float(value), ""
    except ValueError:
        return True, 0.0, value


def write_csv(path: Path, jobs: Sequence[Job], keys: Sequence[str]) -> None:
    """A row for each job: its status, its swept values, its metrics, why it failed."""
    metrics = list(dict.fromkeys(key for job in jobs for key in job.metrics))
    with atomic(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["job", "status", *keys, *metrics, "reason"])
        for job in jobs:
            values = [job.values.get(key, "") for key in keys]
            numbers = [job.metrics.get(key, "") for key in metrics]
            writer.writerow([job.name, job.status, *values, *numbers, job.reason])


def markdown(jobs: Sequence[Job], keys: Sequence[str], table: Sequence[Row], score: str) -> str:
    """Mean and standard deviation of each group, and the jobs that did not finish."""
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
    """Mean and standard deviation of each group."""
    if len(table) > 1 and set(keys) <= set(AVERAGED):
        # Each run has a row, and the last one is what they are for.
        every = ("all", *[""] * (len(axes(keys)) - 1))
        scores = [value for _, values, _ in table for value in values]
        table = [*table, (every, scores, [value for _, _, values in table for value in values])]
    rows = [
        [*group, len(scores), spread(scores, 4), spread(seconds, 1)]
        for group, scores, seconds in table
    ]
    return Table(score, (*axes(keys), "runs", score, "seconds"), rows)


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and, of several values, standard deviation."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def share(config: DictConfig, sweep: Path) -> None:
    """Sends table and figure to W&B as a run of the sweep's group, if the jobs log there."""
    node: Mapping[str, Any] | None = config.logger.get("wandb") if config.logger else None
    if not node or not (sweep / "summary.png").exists():
        return
    import wandb

    from thaw.training.loggers import wandb_logger

    options = {"project": node["project"], "group": sweep.name, "name": "summary"}
    run = wandb_logger(str(sweep), job_type="summary", **options).experiment
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
