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
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from thaw.cli import fail
from thaw.errors import ThawError
from thaw.files import whole, write_whole
from thaw.findings import Table, headline
from thaw.ranks import launch
from thaw.redact import redacted, redacted_text

log = logging.getLogger(__name__)

FAILED = "failed.json"
SECONDS = "fit_seconds"
AVERAGED = ("seed", "data.fold")  # what a mean and its spread are over
NAME = 100  # characters of a run's name
UNTOLD = ("hydra", "logger", "callbacks", "run_dir")  # of a run's name


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
    """Overrides by key, `resume` apart, without secrets: as they are kept."""
    pairs = (redacted(str(word)).lstrip("+~").partition("=") for word in words)
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


def running() -> Path | None:
    """The directory of the sweep that runs, None outside of one."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return Path(hydra.sweep.dir)
    # A job with several devices is a run of its own, in the sweep's directory.
    parent = Path(hydra.run.dir).absolute().parent
    return parent if (parent / "multirun.yaml").is_file() else None


def group() -> str | None:
    """The name of the sweep that runs, None outside of one: `${thaw.group:}`."""
    sweep = running()
    return None if sweep is None else sweep.name


def run_name(run_dir: str) -> str | None:
    """A short name for a run: `${thaw.name:...}`. Of a job of a sweep, what tells it from the
    others; else what was typed; of a run in a chain, its place in it.

    Args:
        run_dir: of the run.

    Returns:
        None where nothing was typed, and outside of Hydra.
    """
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    words, sweep = values_of(hydra.overrides.task), running()
    if sweep is not None and (sweep / "multirun.yaml").is_file():
        typed = list(OmegaConf.load(sweep / "multirun.yaml").hydra.overrides.task)
        parsed = OverridesParser.create().parse_overrides(typed)
        same = {o.key_or_group for o in parsed if not o.is_sweep_override()}
        words = {key: value for key, value in words.items() if key not in same} or words
    place = Path(run_dir).absolute()
    root = Path(hydra.runtime.output_dir).absolute()
    chained = [str(place.relative_to(root))] if root in place.parents else []
    told = [short(key, value) for key, value in words.items() if not key.startswith(UNTOLD)]
    return " ".join([*told, *chained])[:NAME] or None


def short(key: str, value: str) -> str:
    """An override without the directories of its value, cut where it is long."""
    value = value.rstrip("/").rsplit("/", 1)[-1]
    return f"{key}={value if len(value) <= 24 else value[:23] + '…'}"


def direction(mode: str) -> str:
    """Optuna's word for `monitor_mode`: `${thaw.direction:...}`."""
    return {"max": "maximize", "min": "minimize"}[mode]


def finished(cfg: DictConfig) -> bool:
    """Whether a run, or a job of a sweep, that is taken up is done."""
    if cfg.resume is None:
        return False
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
        write_whole(directory / FAILED, json.dumps({"reason": redacted_text(reason)}) + "\n")
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
    write_whole(sweep / "summary.md", markdown(jobs, keys, table, score))
    print("\n" + (sweep / "summary.md").read_text(encoding="utf-8"))
    panels: list[str] = []
    if table:
        from thaw.report import svg, sweep_figure, sweep_panels

        rows = [(dict(zip(axes(keys), g, strict=True)), s, t) for g, s, t in table]
        sweep_figure(rows, axes(keys), score, sweep / "summary.png")
        drawn, lines = sweep_panels(rows, axes(keys), score)
        panels = [svg(panel, 3.4 + 0.2 * lines) for panel in drawn]
    from thaw.html import sweep_page

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
    with whole(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
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
    rows = [[*group, len(scores), spread(scores, 4), spread(seconds, 1)]
            for group, scores, seconds in table]  # fmt: skip
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

    from thaw.loggers import wandb_logger

    options = {"project": node["project"], "group": sweep.name, "name": "summary"}
    run = wandb_logger(str(sweep), job_type="summary", **options).experiment
    with open(sweep / "summary.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    run.log({"summary": wandb.Table(columns=[*header], data=rows),
             "figure": wandb.Image(str(sweep / "summary.png")),
             "report": wandb.Html(str(sweep / "report.html"), inject=False)})  # fmt: skip
    run.finish()
