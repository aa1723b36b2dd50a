"""What `-m` leaves besides its runs: a summary of them, whatever was swept. And how a sweep is
taken up that was stopped, or that has more values now.

No torch here: `train.py` asks whether a job is done before anything is loaded.
"""

import csv
import hashlib
import json
import logging
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from thaw.cli import fail
from thaw.errors import ThawError
from thaw.files import whole, write_whole

log = logging.getLogger(__name__)

FAILED = "failed.json"
SECONDS = "fit_seconds"
SEED = "seed"


@dataclass
class Job:
    """One run of a sweep.

    Attributes:
        name: of its directory.
        values: what was typed, by key, `resume` apart.
        metrics: none until it finishes.
        reason: why it failed.
    """

    name: str
    values: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def status(self) -> str:
        """done, failed or unfinished."""
        return "done" if self.metrics else "failed" if self.reason else "unfinished"


def values_of(words: Iterable[str]) -> dict[str, str]:
    """Overrides by key, `resume` apart."""
    pairs = (str(word).lstrip("+~").partition("=") for word in words)
    return {key: value for key, _, value in pairs if key != "resume"}


def read_jobs(sweep: Path) -> list[Job]:
    """The jobs of a sweep's directory, those with a number first."""
    found = []
    for path in sweep.glob("*/.hydra/overrides.yaml"):
        directory = path.parents[1]
        job = Job(directory.name, values_of(map(str, OmegaConf.load(path))))
        if (directory / "metrics.json").exists():
            job.metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
        elif (directory / FAILED).exists():
            job.reason = json.loads((directory / FAILED).read_text(encoding="utf-8"))["reason"]
        found.append(job)
    return sorted(found, key=lambda j: (not j.name.isdigit(), j.name.zfill(8)))


def place(sweep: str, resume: str | None, number: int, words: Sequence[str]) -> str:
    """The directory of a job within its sweep: `${thaw.job:...}` in `conf/hydra/thaw.yaml`.

    Args:
        sweep: the sweep's directory.
        resume: None in a new sweep, whose jobs are numbered.
        number: of the job.
        words: its overrides. In a sweep that is taken up, they find the job's directory; a job
            that is new there is named after their hash, as numbers are taken.
    """
    if resume is None:
        return str(number)
    values = values_of(words)
    for job in read_jobs(Path(sweep)):
        if job.values == values:
            return job.name
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def sweep_dir(resume: str | None, new: str) -> str:
    """Where a sweep goes: `${thaw.sweep:...}` in `conf/hydra/thaw.yaml`."""
    return new if resume is None else resume


def group() -> str | None:
    """The name of the sweep that runs, None outside of one: `${thaw.group:}`."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return Path(hydra.sweep.dir).name
    # A job with several devices is a run of its own, in the sweep's directory.
    parent = Path(hydra.run.dir).absolute().parent
    return parent.name if (parent / "multirun.yaml").is_file() else None


def direction(mode: str) -> str:
    """Optuna's word for `monitor_mode`: `${thaw.direction:...}`."""
    return {"max": "maximize", "min": "minimize"}[mode]


def finished(cfg: DictConfig) -> bool:
    """Whether a run, or a job of a sweep, that is taken up is done.

    Raises:
        ThawError: a sweep is taken up as a run.
    """
    if cfg.resume is None:
        return False
    mode = HydraConfig.get().mode
    if mode != RunMode.MULTIRUN and (Path(cfg.resume) / "multirun.yaml").is_file():
        raise ThawError(f"resume={cfg.resume} is a sweep: add -m, and the words it began with.")
    directory = Path(cfg.run_dir)
    if (directory / "metrics.json").exists():
        log.info("done before: %s", directory)
        return True
    (directory / FAILED).unlink(missing_ok=True)
    return False


class Summary(Callback):
    """Writes summary.csv, summary.md and summary.png of a sweep, and ends it with exit code 1 if a
    job failed. A failed job does not stop the others.

    A launcher that runs jobs in other processes sends it there; it is made anew, and with it what
    the names of directories are resolved with."""

    def __init__(self) -> None:
        from thaw.cli import register_resolvers

        register_resolvers()

    def __reduce__(self) -> Any:
        return Summary, ()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.resume is not None and not (Path(config.resume) / "multirun.yaml").is_file():
            fail(f"resume={config.resume}: no sweep there, such as multirun/<date>/<time>.")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN or job_return.status != JobStatus.FAILED:
            return
        error = job_return._return_value
        reason = str(error) if isinstance(error, ThawError) else f"{type(error).__name__}: {error}"
        directory = Path(config.hydra.runtime.output_dir)
        write_whole(directory / FAILED, json.dumps({"reason": reason}) + "\n")
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
    """Writes the summary of a sweep.

    Args:
        sweep: its directory.
        jobs: of `read_jobs`.
        monitor: the watched metric; the score is the test's of the same name, where there is one.
    """
    keys = swept(jobs)
    score = score_of(jobs, monitor)
    write_csv(sweep / "summary.csv", jobs, keys)
    table = groups(jobs, keys, score)
    write_whole(sweep / "summary.md", markdown(jobs, keys, table, score))
    print("\n" + (sweep / "summary.md").read_text(encoding="utf-8"))
    if table:
        from thaw.report import sweep_figure

        sweep_figure([(dict(zip(axes(keys), g, strict=True)), s, t) for g, s, t in table],
                     axes(keys), score, sweep / "summary.png")  # fmt: skip


def swept(jobs: Sequence[Job]) -> list[str]:
    """The keys whose values differ between jobs, in the order they were typed."""
    typed = dict.fromkeys(key for job in jobs for key in job.values)
    return [key for key in typed if len({job.values.get(key) for job in jobs}) > 1]


def axes(keys: Sequence[str]) -> list[str]:
    """The swept keys but the seed; the seed where nothing else is swept."""
    return [key for key in keys if key != SEED] or list(keys)


def score_of(jobs: Sequence[Job], monitor: str) -> str:
    """The metric of the summary: the test's, else validation's, else the first that all have."""
    first = next((job.metrics for job in jobs if job.metrics), {})
    wanted = (monitor.replace("val/", "test/"), monitor, *first)
    return next((key for key in wanted if key in first), monitor)


Row = tuple[tuple[str, ...], list[float], list[float]]


def groups(jobs: Sequence[Job], keys: Sequence[str], score: str) -> list[Row]:
    """Scores and seconds of the finished jobs by the values of the swept keys, seeds together."""
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
    with whole(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["job", "status", *keys, *metrics, "reason"])
        for job in jobs:
            values = [job.values.get(key, "") for key in keys]
            numbers = [job.metrics.get(key, "") for key in metrics]
            writer.writerow([job.name, job.status, *values, *numbers, job.reason])


def markdown(jobs: Sequence[Job], keys: Sequence[str], table: Sequence[Row], score: str) -> str:
    """Mean and standard deviation of each group, and the jobs that did not finish."""
    columns = [*axes(keys), "runs", score, "seconds"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for group, scores, seconds in table:
        cells = [*group, str(len(scores)), spread(scores, 4), spread(seconds, 1)]
        lines.append(f"| {' | '.join(cells)} |")
    if bad := [job for job in jobs if job.status != "done"]:
        lines += ["", "| job | " + " | ".join(keys) + " | status | reason |"]
        lines.append(f"|{'---|' * (len(keys) + 3)}")
        for job in bad:
            values = [job.values.get(key, "") for key in keys]
            reason = " ".join(job.reason.split()).replace("|", "\\|")
            lines.append(f"| {' | '.join([job.name, *values, job.status, reason])} |")
    return "\n".join(lines) + "\n"


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

    from thaw.loggers import wandb_logger

    options = {"project": node["project"], "group": sweep.name, "name": "summary"}
    run = wandb_logger(str(sweep), job_type="summary", **options).experiment
    with open(sweep / "summary.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    run.log({"summary": wandb.Table(columns=[*header], data=rows),
             "figure": wandb.Image(str(sweep / "summary.png"))})  # fmt: skip
    run.finish()
