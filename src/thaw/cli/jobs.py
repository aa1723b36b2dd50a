"""The jobs of a sweep: their directories, names and results. No torch here."""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from thaw.cli.secrets import redacted

log = logging.getLogger(__name__)

FAILED = "failed.json"
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
        words: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        job = Job(directory.name, values_of(map(str, words)))
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
    """Where a sweep goes: `${thaw.report.sweep:...}` in `conf/hydra/thaw.yaml`."""
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
        notes: Any = OmegaConf.to_container(OmegaConf.load(sweep / "multirun.yaml"), resolve=False)
        typed = notes["hydra"]["overrides"]["task"]
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
