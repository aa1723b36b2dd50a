"""Groups the jobs of a sweep that differ in seed or fold alone: the best of them, and tables.

This module does not import torch, because a sweep's report is written without it.
"""

import csv
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.cli.jobs import Job
from thaw.report.sections import Table, readable
from thaw.report.tables import headline, markdown_table
from thaw.storage.files import atomic

SECONDS = "fit_seconds"
AVERAGED = ("seed", "data.fold")  # keys that mean and standard deviation are taken over


@dataclass(frozen=True)
class Group:
    """Finished jobs that differ in seed or fold alone."""

    values: tuple[str, ...]  # value of each key of `axes`, in this order
    jobs: Sequence[Job]  # the jobs

    def numbers(self, metric: str) -> list[float]:
        """Returns a metric of all jobs that have it."""
        return [job.metrics[metric] for job in self.jobs if metric in job.metrics]


def swept(jobs: Sequence[Job]) -> list[str]:
    """Returns the keys whose values differ between jobs, in the order they were typed."""
    typed = dict.fromkeys(key for job in jobs for key in job.values)
    return [key for key in typed if len({job.values.get(key) for job in jobs}) > 1]


def axes(keys: Sequence[str]) -> list[str]:
    """Returns the swept keys without seed and fold, or with them if nothing else is swept."""
    return [key for key in keys if key not in AVERAGED] or list(keys)


def scores_of(jobs: Sequence[Job], monitor: str) -> list[str]:
    """Returns the metrics of the summary: the watched one, by which one chooses, and then that of
    the test; without both, `headline` of the first finished job, else `monitor`."""
    wanted = dict.fromkeys((monitor, monitor.replace("val/", "test/")))
    if found := [key for key in wanted if any(key in job.metrics for job in jobs)]:
        return found
    first = next((job.metrics for job in jobs if job.metrics), {})
    return [headline(first, monitor) or monitor]


def groups(jobs: Sequence[Job], keys: Sequence[str], scores: Sequence[str]) -> list[Group]:
    """Returns the finished jobs with one of `scores`, grouped by the values of `axes(keys)`."""
    found: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        if any(score in job.metrics for score in scores):
            values = tuple(job.values.get(key, "") for key in axes(keys))
            found.setdefault(values, []).append(job)
    order = sorted(found, key=lambda group: [sortable(value) for value in group])
    return [Group(values, found[values]) for values in order]


def left_out(jobs: Sequence[Job], table: Sequence[Group], score: str) -> dict[str, str]:
    """Returns why jobs are in no group of a table, by their names."""
    shown = {job.name for group in table for job in group.jobs}
    return {job.name: reason(job, score) for job in jobs if job.name not in shown}


def reason(job: Job, score: str) -> str:
    """Returns why a job has no finite `score`."""
    if job.status == "done":
        return f"{score} is {job.metrics[score]}" if score in job.metrics else f"no {score}"
    return job.reason or "it was stopped before its end"


def sortable(value: str) -> tuple[bool, float, str]:
    """Returns a sort key that orders numbers by value and puts other values after them."""
    try:
        return False, float(value), ""
    except ValueError:
        return True, 0.0, value


def best_of(table: Sequence[Group], score: str, mode: str) -> tuple[Group, Job] | None:
    """Returns the group with the best mean of a validation score, and its best job; `mode` says
    whether "max" or "min" is better. None without such a score: who chooses by the test has no test
    left."""
    sign = 1 if mode == "max" else -1
    # A mean over fewer jobs than were run would not be comparable.
    whole = [g for g in table if len(g.numbers(score)) == len(g.jobs)]
    known = [g for g in whole if all(map(math.isfinite, g.numbers(score)))]
    if not known or score.startswith("test/"):
        return None
    group = max(known, key=lambda g: sign * statistics.mean(g.numbers(score)))
    return group, max(group.jobs, key=lambda job: sign * job.metrics[score])


def summary_table(
    keys: Sequence[str],
    table: Sequence[Group],
    scores: Sequence[str],
    best: tuple[Group, Job] | None,
) -> Table:
    """Returns a table with mean and standard deviation of each group's `scores`, that of the choice
    first, the best marked.

    If only seeds or folds were swept, each run has a row, and the row "all" has their mean.
    """
    if len(table) > 1 and set(keys) <= set(AVERAGED):
        every = ("all", *[""] * (len(axes(keys)) - 1))
        table = [*table, Group(every, [job for group in table for job in group.jobs])]
    rows: list[list[Any]] = [
        [
            *map(readable, group.values),
            len(group.jobs),
            *(spread(group.numbers(score), 4) for score in scores),
            spread(group.numbers(SECONDS), 1),
        ]
        for group in table
    ]
    note = ""
    if best:
        row = rows[next(i for i, group in enumerate(table) if group is best[0])]
        row[len(axes(keys)) + 1] += " ★"
        note = f"★ is the best by {scores[0]}."
    several = any(len(group.jobs) > 1 for group in table)
    title = "mean and standard deviation" if several else "scores"
    return Table(title, (*axes(keys), "runs", *scores, "seconds"), rows, note)


def spread(values: Sequence[float], digits: int) -> str:
    """Returns the mean as text, and the standard deviation if there are several values."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def write_csv(path: Path, jobs: Sequence[Job], keys: Sequence[str]) -> None:
    """Writes a row for each job: status, swept values, metrics, and why it failed."""
    metrics = dict.fromkeys(key for job in jobs for key in job.metrics)
    columns = ["job", "status", *keys, *metrics, "reason"]
    with atomic(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        for job in jobs:
            about = {"job": job.name, "status": job.status, "reason": job.reason}
            writer.writerow(job.values | job.metrics | about)


def markdown(
    jobs: Sequence[Job], keys: Sequence[str], summary: Table, left: Mapping[str, str]
) -> str:
    """Returns the summary in Markdown: a row for each group, and the jobs that are `left` out, with
    the reasons."""
    told = markdown_table(summary.columns, summary.rows)
    if not left:
        return f"{told}\n"
    rows = [
        [j.name, *(j.values.get(key, "") for key in keys), j.status, left[j.name]]
        for j in jobs
        if j.name in left
    ]
    counted = f"Without a score: {len(left)} of {len(jobs)} jobs."
    parts = (told, counted, markdown_table(("job", *keys, "status", "reason"), rows))
    return "\n\n".join(filter(None, parts)) + "\n"


def unfinished(sweep: Path, jobs: Sequence[Job]) -> str:
    """Returns how many jobs of a sweep did not finish, why the first did not, and what to type."""
    first, *others = [job for job in jobs if job.status != "done"]
    why = reason(first, "").rstrip(".")
    told = (
        f"{1 + len(others)} of {len(jobs)} jobs did not finish. The first, job {first.name}: {why}."
    )
    if (path := sweep / first.name / "train.log").is_file():
        told += f" Its log is {path}."
    again = shlex.quote(f"resume={sweep}")
    return f"{told} `python train.py {again}` runs them again when the cause is mended."
