"""Summarizes the jobs of a sweep (`-m`), whatever was swept.

This module does not import torch, because Hydra loads it with every command.
"""

import csv
import json
import logging
import math
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from thaw.cli.compose import fail
from thaw.cli.finished_run import finished, require_same
from thaw.cli.jobs import FAILED, Job, read_jobs
from thaw.cli.processes import launch
from thaw.cli.secrets import redacted_text
from thaw.errors import ThawError
from thaw.report import groups
from thaw.report.groups import AVERAGED, SECONDS, Group, axes
from thaw.report.search import importance_table, require_options, require_repeatable, search_space
from thaw.report.sections import Image, Section
from thaw.storage.files import write_atomic

log = logging.getLogger(__name__)

SHARED = ("experiment", "task", "data", "model", "freeze")  # shown once if all jobs share them


class Summary(Callback):
    """Writes the summary of a sweep, and ends it with exit code 1 if a job failed.

    A failed job does not stop the others. A launcher that runs jobs in other processes pickles this
    callback; unpickling constructs it again, which registers the resolvers in that process.
    """

    search: ClassVar[DictConfig | None] = None  # config of the search that this process runs

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
        if search_space(config) is not None:
            require_repeatable(config)
            require_options(config)
            Summary.search = config
            notes = Path(config.hydra.sweep.dir) / "multirun.yaml"
            notes.parent.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(config, notes)  # as Hydra's own sweeper does, and Optuna's does not

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        error = job_return._return_value
        if job_return.status != JobStatus.FAILED:
            if isinstance(error, float) and math.isnan(error):
                job_return.return_value = None  # None fails a trial, NaN ends a search
            return
        if isinstance(error.__cause__, ThawError):  # Hydra wraps what a constructor raises
            error = error.__cause__
        reason = str(error) if isinstance(error, ThawError) else f"{type(error).__name__}: {error}"
        directory = Path(config.hydra.runtime.output_dir)
        write_atomic(directory / FAILED, json.dumps({"reason": redacted_text(reason)}) + "\n")
        log.error("failed: %s", reason, exc_info=None if isinstance(error, ThawError) else error)
        # Hydra would raise the error without on_multirun_end.
        job_return.status, job_return.return_value = JobStatus.COMPLETED, None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        sweep = Path(config.hydra.sweep.dir)
        jobs = read_jobs(sweep)
        space = search_space(config)
        told = summarize(sweep, jobs, str(config.monitor), str(config.monitor_mode), space)
        print("\n" + told)
        log_summary_to_wandb(config, sweep)
        print(f"sweep directory: {sweep}")
        if any(job.status != "done" for job in jobs):
            print(f"thaw: {groups.unfinished(sweep, jobs)}", file=sys.stderr)
            sys.exit(1)  # an Exception would become a warning here


def end_without_score(error: ValueError) -> None:
    """Ends a search in which no trial has a score, with its summary and exit code 1: Optuna raises
    an error then, after which Hydra does not call `on_multirun_end`. Other errors it leaves."""
    config = Summary.search
    if config is None or "No trials are completed" not in str(error):
        return
    Summary().on_multirun_end(config)
    print(f"thaw: no trial of this search has measured {config.monitor}.", file=sys.stderr)
    sys.exit(1)


def summarize(
    sweep: Path,
    jobs: Sequence[Job],
    monitor: str,
    mode: str = "max",
    space: Mapping[str, Any] | None = None,
    further: Sequence[Section] = (),
) -> str:
    """Writes the summary of a sweep as CSV, Markdown, PNG and report.html; returns the Markdown.

    Args:
        sweep: directory of the sweep.
        jobs: its jobs.
        monitor: name of the watched metric, by which the best job is chosen.
        mode: "max" or "min", which value of it is better.
        space: distribution of each parameter of a search; None: the sweep is none.
        further: sections of the report below the figures.
    """
    from thaw.report.html_page import page

    keys, scores = groups.swept(jobs), groups.scores_of(jobs, monitor)
    groups.write_csv(sweep / "summary.csv", jobs, keys)
    table = groups.groups(jobs, keys, scores)
    # Folds validate on different texts: none of them is better for its score.
    best = None if "data.fold" in axes(keys) else groups.best_of(table, scores[0], mode)
    if space is not None:  # the trials of a search, the best first
        table = [g for g in table if any(map(math.isfinite, g.numbers(scores[0])))]
        table.sort(key=lambda g: statistics.mean(g.numbers(scores[0])), reverse=mode == "max")
    left = groups.left_out(jobs, table, scores[0])
    summary = groups.summary_table(keys, table, scores, best)
    usage = use_of(sweep, keys, best, scores)
    sections = list[Section]()
    if table:
        sections = figures(jobs, keys, table, scores, mode, space, best)
        write_atomic(sweep / "summary.png", next(s.png for s in sections if isinstance(s, Image)))
    first = jobs[0].values if jobs else {}
    html = page(
        "sweep.html",
        name=sweep.name,
        jobs=jobs,
        keys=keys,
        scores=scores,
        left=left,
        same={k: v for k, v in first.items() if k in SHARED and k not in keys},
        sections=[summary, *sections, *further],
        reports={job.name for job in jobs if (sweep / job.name / "report.html").exists()},
        best=best[1].name if best else "",
        usage=usage,
    )
    write_atomic(sweep / "report.html", html)
    told = groups.markdown(jobs, keys, summary, left)
    told += "".join(f"\n{what}\n\n    {command}\n" for what, command in usage)
    write_atomic(sweep / "summary.md", told)
    return told


def figures(
    jobs: Sequence[Job],
    keys: Sequence[str],
    table: Sequence[Group],
    scores: Sequence[str],
    mode: str,
    space: Mapping[str, Any] | None,
    best: tuple[Group, Job] | None,
) -> list[Section]:
    """Returns the figure of a sweep, and of a search also the importance of its parameters; for the
    arguments see `summarize`."""
    from thaw.report.figures import image
    from thaw.report.sweep_figures import search_panels, sweep_panels

    if space is None or not keys:  # such as a search of one trial
        titles = {score: score for score in scores} | {SECONDS: "seconds of training"}
        panels, lines = sweep_panels(table, axes(keys), titles)
        note = "Mean and standard deviation, where a point is of several runs."
        return [image("summary", panels, (5, 3.6 + 0.2 * lines), note=note)]
    logarithmic = {key for key, found in space.items() if "Log" in type(found).__name__}
    drawn = search_panels(table, axes(keys), scores[0], logarithmic, best and best[0])
    importance = importance_table(jobs, space, scores[0], mode)
    note = "Each point is a trial, ★ the best."
    return [image("summary", drawn, (5, 3.6), note=note), *([importance] if importance else [])]


def use_of(
    sweep: Path, keys: Sequence[str], best: tuple[Group, Job] | None, scores: Sequence[str]
) -> list[tuple[str, str]]:
    """Returns what is predicted with, and the command: the best job, if its model is there, and all
    jobs as one model, if they differ in seed or fold alone and can be averaged."""

    def predict(run: Path) -> str:
        where = shlex.quote(f"run={run.absolute()}")
        return f"python -m thaw.predict {where} input=new.csv output=out.csv"

    uses = []
    if best is not None and (sweep / best[1].name / "model").is_dir():
        job = best[1]
        found = ", ".join(f"{key} {job.metrics[key]:.4f}" for key in scores if key in job.metrics)
        repeated = {key in AVERAGED for key in keys} == {True, False}
        means = f"Of the runs whose mean {scores[0]} is the best, the best"
        said = f"{means if repeated else f'The best by {scores[0]}'} is job {job.name}: {found}. "
        said += "To use it:"
        uses.append((said, predict(sweep / job.name)))
    if keys and set(keys) <= set(AVERAGED):
        with suppress(ThawError):
            require_same(models := finished(sweep))
            said = f"The {len(models)} models as one, which averages what they predict:"
            uses.append((said, predict(sweep)))
    return uses


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
