"""Summarizes the jobs of a sweep (`-m`), whatever was swept.

This module does not import torch, because Hydra loads it with every command.
"""

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

from thaw.cli.compose import fail, register_resolvers
from thaw.cli.finished_run import finished, require_same
from thaw.cli.jobs import FAILED, read_jobs
from thaw.cli.processes import launch
from thaw.cli.secrets import redacted_text
from thaw.errors import ThawError
from thaw.report import groups
from thaw.report.groups import AVERAGED, SECONDS, Group, spread
from thaw.report.html_page import page
from thaw.report.search import importance_table, require_options, require_repeatable, search_space
from thaw.report.sections import Image, Section, Table, readable
from thaw.report.tables import markdown_table
from thaw.storage.files import write_atomic

log = logging.getLogger(__name__)

REPORT = "report.html"
SHARED = ("experiment", "task", "data", "model", "freeze")  # shown once if all jobs share them


class Summary(Callback):
    """Writes the summary of a sweep, and ends it with exit code 1 if a job failed.

    A failed job does not stop the others. A launcher that runs jobs in other processes pickles this
    callback; unpickling constructs it again, which registers the resolvers in that process.
    """

    search: ClassVar[DictConfig | None] = None  # config of the search that this process runs

    def __init__(self) -> None:
        register_resolvers()

    def __reduce__(self) -> Any:
        return Summary, ()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if started := launch():
            fail(
                f"{started.by} has started {started.world_size} processes, and each would run this "
                "sweep: start it without, with trainer.devices, or with an engine."
            )
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
        directory, space = Path(config.hydra.sweep.dir), search_space(config)
        sweep = Sweep(directory, str(config.monitor), str(config.monitor_mode), space)
        print("\n" + sweep.write())
        wandb = config.logger.get("wandb") if config.logger else None
        if wandb and sweep.table:
            from thaw.report.wandb_upload import log_sweep_to_wandb

            log_sweep_to_wandb(wandb["project"], directory)
        print(f"sweep directory: {directory}")
        if any(job.status != "done" for job in sweep.jobs):
            print(f"thaw: {groups.unfinished(sweep.jobs, directory)}", file=sys.stderr)
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


class Sweep:
    """The jobs of a sweep, grouped and compared.

    Args:
        directory: directory of the sweep.
        monitor: name of the watched metric, by which the best job is chosen.
        mode: "max" or "min", which value of it is better.
        space: distribution of each parameter of a search; None: the sweep is none.
    """

    def __init__(
        self, directory: Path, monitor: str, mode: str = "max", space: Mapping | None = None
    ) -> None:
        self.directory, self.mode, self.space = directory, mode, space
        self.jobs = read_jobs(directory)
        self.keys, self.scores = groups.swept(self.jobs), groups.scores_of(self.jobs, monitor)
        self.axes = groups.axes(self.keys)
        self.table = groups.groups(self.jobs, self.axes, self.scores)
        # Folds validate on different texts: none of them is better for its score.
        folds, score = "data.fold" in self.axes, self.scores[0]
        self.best = None if folds else groups.best_of(self.table, score, mode)
        if space is not None:  # the trials of a search, the best first
            self.table = [g for g in self.table if any(map(math.isfinite, g.numbers(score)))]
            self.table.sort(key=lambda g: statistics.mean(g.numbers(score)), reverse=mode == "max")
        shown = {job.name for group in self.table for job in group.jobs}
        left = [job for job in self.jobs if job.name not in shown]
        self.left = {job.name: groups.reason(job, score) for job in left}  # without a score

    def write(self, further: Sequence[Section] = ()) -> str:
        """Writes the summary as CSV, Markdown, PNG and report.html, where `further` sections stand
        below the figures; returns the Markdown."""
        groups.write_csv(self.directory / "summary.csv", self.jobs, self.keys)
        summary = self.summary()
        usage = self.usage()
        figures = self.figures() if self.table else []
        for image in (s for s in figures if isinstance(s, Image)):
            write_atomic(self.directory / image.file, image.png)
        first = self.jobs[0].values if self.jobs else {}
        reports = [job.name for job in self.jobs if (self.directory / job.name / REPORT).exists()]
        html = page(
            "sweep.html",
            sweep=self,
            same={k: v for k, v in first.items() if k in SHARED and k not in self.keys},
            sections=[summary, *figures, *further],
            reports=reports,
            usage=usage,
        )
        write_atomic(self.directory / REPORT, html)
        told = self.markdown(summary)
        told += "".join(f"\n{what}\n\n    {command}\n" for what, command in usage)
        write_atomic(self.directory / "summary.md", told)
        return told

    def summary(self) -> Table:
        """Returns a table with mean and standard deviation of each group's scores, that of the
        choice first, the best marked.

        If only seeds or folds were swept, each run has a row, and the row "all" has their mean.
        """
        table, note = list(self.table), ""
        if len(table) > 1 and set(self.keys) <= set(AVERAGED):
            every = ("all", *[""] * (len(self.axes) - 1))
            table.append(Group(every, [job for group in table for job in group.jobs]))
        rows: list[list[Any]] = [
            [
                *map(readable, group.values),
                len(group.jobs),
                *(spread(group.numbers(score), 4) for score in self.scores),
                spread(group.numbers(SECONDS), 1),
            ]
            for group in table
        ]
        if self.best:
            rows[table.index(self.best[0])][len(self.axes) + 1] += " ★"
            note = f"★ is the best by {self.scores[0]}."
        several = any(len(group.jobs) > 1 for group in table)
        title = "mean and standard deviation" if several else "scores"
        return Table(title, (*self.axes, "runs", *self.scores, "seconds"), rows, note)

    def figures(self) -> list[Section]:
        """Returns the figure, and of a search also the importance of its parameters."""
        from thaw.report.figures import image
        from thaw.report.sweep_figures import search_panels, sweep_panels

        if self.space is None or not self.keys:  # such as a search of one trial
            titles = {score: score for score in self.scores} | {SECONDS: "seconds of training"}
            panels, lines = sweep_panels(self.table, self.axes, titles)
            note = "Mean and standard deviation, where a point is of several runs."
            return [image("summary", panels, (5, 3.6 + 0.2 * lines), note=note)]
        score, best = self.scores[0], self.best and self.best[0]
        logarithmic = {key for key, found in self.space.items() if "Log" in type(found).__name__}
        panels = search_panels(self.table, self.axes, score, logarithmic, best)
        importance = importance_table(self.jobs, self.space, score, self.mode)
        note = "Each point is a trial, ★ the best."
        return [
            image("summary", panels, (5, 3.6), note=note),
            *([importance] if importance else []),
        ]

    def usage(self) -> list[tuple[str, str]]:
        """Returns what is predicted with, and the command: the best job, if its model is there, and
        all jobs as one model, if they differ in seed or fold alone and can be averaged."""

        def predict(run: Path) -> str:
            where = shlex.quote(f"run={run.absolute()}")
            return f"python -m thaw.predict {where} input=new.csv output=out.csv"

        uses, score = [], self.scores[0]
        if self.best is not None and (self.directory / self.best[1].name / "model").is_dir():
            job = self.best[1]
            found = ", ".join(f"{k} {job.metrics[k]:.4f}" for k in self.scores if k in job.metrics)
            repeated = {key in AVERAGED for key in self.keys} == {True, False}
            means = f"Of the runs whose mean {score} is the best, the best"
            said = f"{means if repeated else f'The best by {score}'} is job {job.name}: {found}. "
            uses.append((f"{said}To use it:", predict(self.directory / job.name)))
        if self.keys and set(self.keys) <= set(AVERAGED):
            with suppress(ThawError):
                require_same(models := finished(self.directory))
                said = f"The {len(models)} models as one, which averages what they predict:"
                uses.append((said, predict(self.directory)))
        return uses

    def markdown(self, summary: Table) -> str:
        """Returns the summary in Markdown: a row for each group, and the jobs without a score, with
        the reasons."""
        told = [markdown_table(summary.columns, summary.rows)]
        if self.left:
            told.append(f"Without a score: {len(self.left)} of {len(self.jobs)} jobs.")
            rows = [
                [j.name, *(j.values.get(k, "") for k in self.keys), j.status, self.left[j.name]]
                for j in self.jobs
                if j.name in self.left
            ]
            told.append(markdown_table(("job", *self.keys, "status", "reason"), rows))
        return "\n\n".join(filter(None, told)) + "\n"
