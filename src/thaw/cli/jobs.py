"""Names the jobs of a sweep and their directories, and reads their results. No torch here."""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from thaw.cli.kept_config import load_yaml
from thaw.cli.overrides import split_override
from thaw.cli.secrets import redacted
from thaw.storage.files import read_json

log = logging.getLogger(__name__)

FAILED = "failed.json"
LONGEST_NAME = 100  # characters
NOT_IN_NAME = ("hydra", "logger", "callbacks", "run_dir")  # overrides that a run's name leaves out


@dataclass
class Job:
    """One run of a sweep."""

    name: str  # name of its directory
    values: dict[str, str]  # values of its overrides by key, without `resume`
    # Metrics of the finished run, {} until it finishes.
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""  # message of the failure, "" if there was none

    @property
    def status(self) -> str:
        """State of the run: done, failed or unfinished."""
        return "done" if self.metrics else "failed" if self.reason else "unfinished"


def values_of(overrides: Iterable[str]) -> dict[str, str]:
    """Returns the values of overrides by key, without `resume` and without secrets, as they are
    kept."""
    pairs = dict(split_override(redacted(str(override))) for override in overrides)
    return {key: value for key, value in pairs.items() if key != "resume"}


def read_jobs(sweep: Path) -> list[Job]:
    """Returns the jobs in the directory of a sweep, those with a number first."""
    found = []
    for path in sweep.glob("*/.hydra/overrides.yaml"):
        directory = path.parents[1]
        metrics = read_json(directory / "metrics.json")
        reason = "" if metrics else read_json(directory / FAILED).get("reason", "")
        values = values_of(map(str, load_yaml(path)))
        found.append(Job(directory.name, values, metrics, reason))
    return sorted(found, key=lambda j: (not j.name.isdigit(), j.name.zfill(8)))


def job_dir(sweep: str, resume: str | None, number: int, overrides: Sequence[str]) -> str:
    """Returns the directory of a job within its sweep: `${thaw.job:...}` in `conf/hydra/thaw.yaml`.

    The jobs of a new sweep are numbered. A resumed sweep finds the directory of a job by its
    overrides. A job that is new there is named after their hash, as the numbers are taken.
    """
    if resume is None:
        return str(number)
    values = values_of(overrides)
    for job in read_jobs(Path(sweep)):
        if job.values == values:
            return job.name
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def running_sweep() -> Path | None:
    """Returns the directory of the running sweep, None outside of one."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return Path(hydra.sweep.dir)
    # A job with several devices is a run of its own, in the sweep's directory.
    parent = Path(hydra.run.dir).absolute().parent
    return parent if (parent / "multirun.yaml").is_file() else None


def run_name(run_dir: str) -> str | None:
    """Returns a short name for a run, None where nothing was typed: `${thaw.name:...}`.

    A job of a sweep is named after the overrides that tell it from the others, another run after
    all that were typed. A run in a chain also has its path within the chain, or the sweep.
    """
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    values, sweep = values_of(hydra.overrides.task), running_sweep()
    if sweep is not None and (sweep / "multirun.yaml").is_file():
        typed = load_yaml(sweep / "multirun.yaml")["hydra"]["overrides"]["task"]
        parsed = OverridesParser.create().parse_overrides(typed)
        same = {o.key_or_group for o in parsed if not o.is_sweep_override()}
        values = {key: value for key, value in values.items() if key not in same} or values
    path = Path(run_dir).absolute()
    root = Path(hydra.runtime.output_dir).absolute()
    parts = [short(k, value) for k, value in values.items() if not k.startswith(NOT_IN_NAME)]
    within = [top.absolute() for top in (root, sweep) if top and top.absolute() in path.parents]
    if within and path != root:
        parts.append(str(path.relative_to(within[0])))
    return " ".join(parts)[:LONGEST_NAME] or None


def short(key: str, value: str) -> str:
    """Returns an override without the directories of its value, cut where it is long."""
    value = value.rstrip("/").rsplit("/", 1)[-1]
    return f"{key}={value if len(value) <= 24 else value[:23] + '…'}"


def direction(mode: str) -> str:
    """Returns Optuna's word for `monitor_mode`: `${thaw.direction:...}`."""
    return {"max": "maximize", "min": "minimize"}[mode]


def is_done(cfg: DictConfig) -> bool:
    """Returns whether a resumed run, or a job of a resumed sweep, has finished before."""
    if cfg.resume is None:
        return False
    directory = Path(cfg.run_dir)
    if (directory / "metrics.json").exists():
        log.info("done before: %s", directory)
        return True
    (directory / FAILED).unlink(missing_ok=True)
    return False
