"""Groups the jobs of a sweep that differ in seed or fold alone, and finds the best of them.

This module does not import torch, because a sweep's report is written without it.
"""

import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.cli.jobs import Job
from thaw.data.write import RowWriter

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
    the test; without both, the first metric of the first finished job, else `monitor`."""
    wanted = dict.fromkeys((monitor, monitor.replace("val/", "test/")))
    if found := [key for key in wanted if any(key in job.metrics for job in jobs)]:
        return found
    first = next((job.metrics for job in jobs if job.metrics), {})
    return [next(iter(first), monitor)]


def groups(jobs: Sequence[Job], axes: Sequence[str], scores: Sequence[str]) -> list[Group]:
    """Returns the finished jobs with one of `scores`, grouped by the values of `axes`."""
    found: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        if any(score in job.metrics for score in scores):
            values = tuple(job.values.get(key, "") for key in axes)
            found.setdefault(values, []).append(job)
    order = sorted(found, key=lambda group: [sortable(value) for value in group])
    return [Group(values, found[values]) for values in order]


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


def spread(values: Sequence[float], digits: int) -> str:
    """Returns the mean as text, and the standard deviation if there are several values."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def write_csv(path: Path, jobs: Sequence[Job], keys: Sequence[str]) -> None:
    """Writes a row for each job: status, values of the swept keys, metrics, and why it failed."""
    metrics = dict.fromkeys(key for job in jobs for key in job.metrics)
    columns = ["job", "status", *keys, *metrics, "reason"]
    with RowWriter(path) as writer:
        for job in jobs:
            about = {"job": job.name, "status": job.status, "reason": job.reason}
            row = job.values | job.metrics | about
            writer.write({name: row.get(name, "") for name in columns})


def unfinished(jobs: Sequence[Job], directory: Path) -> str:
    """Returns how many jobs of a sweep did not finish, why the first did not, and what to type."""
    first, *others = [job for job in jobs if job.status != "done"]
    told = f"{1 + len(others)} of {len(jobs)} jobs did not finish. "
    told += f"The first, job {first.name}: {reason(first, '').rstrip('.')}."
    if (path := directory / first.name / "train.log").is_file():
        told += f" Its log is {path}."
    again = shlex.quote(f"resume={directory}")
    return f"{told} `python train.py {again}` runs them again when the cause is mended."
