"""Pretrains, then classifies with and without pretraining: `experiment=chapter/adapt`."""

import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from thaw.cli.check import plain
from thaw.cli.compose import compose
from thaw.cli.jobs import Job
from thaw.cli.overrides import group_of
from thaw.cli.subprocess_job import takes_processes
from thaw.errors import ThawError
from thaw.report.html_page import sweep_page
from thaw.report.sections import Table as ReportTable
from thaw.report.sweep import spread
from thaw.storage.files import write_atomic
from thaw.train import train
from thaw.training.run_dir import note_versions, require_free

log = logging.getLogger(__name__)


def adapt(cfg: DictConfig) -> float:
    """Pretrains, classifies with the result, and classifies without it, for each seed.

    Each of the three is a run of its own, in `seed-<n>/pretrain`, `seed-<n>/adapted` and
    `seed-<n>/plain` of the run directory. Overrides of the command line apply to all three,
    `adapt.pretrain` to pretraining and `adapt.classify` to both classifications.

    Args:
        cfg: composed config with the group `adapt`: `seeds`, `pretrain`, `classify`, `score`.

    Returns:
        The mean score with pretraining.

    Raises:
        ThawError: the config asks for several devices or for folds, or a run fails.
    """
    if takes_processes(cfg):
        raise ThawError(
            f"experiment=chapter/adapt chains runs in one process; got trainer.devices="
            f"{cfg.trainer.devices}, expected 1."
        )
    if cfg.data.get("folds") is not None:
        raise ThawError(
            "experiment=chapter/adapt takes no data.folds: pretraining reads no labels, so its "
            "folds are others, and it would read texts of the classifier's test."
        )
    options = plain(cfg.adapt)
    typed = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    overrides = [o for o in typed if group_of(o) not in ("experiment", "adapt", "seed")]
    root = Path(cfg.run_dir).absolute()
    require_free(root, resumed=cfg.resume is not None)
    score = options["score"]
    scores: list[dict[str, float]] = []
    for seed in options["seeds"]:
        seed_dir, shared = root / f"seed-{seed}", [*overrides, f"seed={seed}"]
        log.info("seed %s: pretraining", seed)
        run([*shared, *options["pretrain"]], seed_dir / "pretrain")
        note_versions(root)
        found: dict[str, float] = {"seed": seed}
        for name in ("plain", "adapted"):
            log.info("seed %s: classification, %s", seed, name)
            model = (
                [f"model.checkpoint={seed_dir / 'pretrain' / 'model'}"] if name == "adapted" else []
            )
            found[name] = run([*shared, *options["classify"], *model], seed_dir / name)[score]
        scores.append(found)
        table(scores, score)
    metrics = summary(scores)
    write_atomic(root / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    write_atomic(root / "scores.json", json.dumps(scores, indent=2) + "\n")
    write_atomic(root / "report.html", report(root, scores, score))
    print(f"run directory: {root}")
    return metrics["adapted/mean"]


def run(overrides: Sequence[str], directory: Path) -> Mapping[str, float]:
    """Runs training in this process, with the files that `train.py` would leave.

    A run that is finished, as it may be under `resume=`, is not repeated.

    Returns:
        The metrics of the run.
    """
    if (directory / "metrics.json").exists():
        return json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    cfg = compose([*overrides, f"run_dir={directory}"])
    (directory / ".hydra").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, directory / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.create(list(overrides)), directory / ".hydra" / "overrides.yaml")
    # Overrides are shared by all three runs, so a task may get one that it does not read.
    train(cfg, typed=())
    return json.loads((directory / "metrics.json").read_text(encoding="utf-8"))


def summary(scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns mean and standard deviation of both scores, and of their difference by seed."""
    columns = {name: [s[name] for s in scores] for name in ("plain", "adapted")}
    columns["difference"] = [s["adapted"] - s["plain"] for s in scores]
    out = {}
    for name, values in columns.items():
        out[f"{name}/mean"] = statistics.mean(values)
        out[f"{name}/std"] = statistics.stdev(values) if len(values) > 1 else 0.0
    return out


def report(root: Path, scores: Sequence[Mapping[str, Any]], score: str) -> str:
    """Returns an HTML page with both scores and links to the reports of the runs."""
    keys = ("classification", "seed")
    jobs = [
        Job(f"seed-{s['seed']}/{name}", {keys[0]: name, keys[1]: str(s["seed"])}, {score: s[name]})
        for name in ("plain", "adapted")
        for s in scores
    ]
    rows = [[k, len(scores), spread([s[k] for s in scores], 4)] for k in ("plain", "adapted")]
    means = ReportTable("mean and standard deviation", (keys[0], "runs", score), rows)
    return sweep_page(root.name, jobs, keys, [score], [means], {job.name for job in jobs})


def table(scores: Sequence[Mapping[str, Any]], score: str) -> None:
    """Prints both scores side by side."""
    shown = Table(title=f"{score}, without and with pretraining on the texts", title_justify="left")
    for name in ("seed", "without", "with", "difference"):
        shown.add_column(name, justify="right")
    for s in scores:
        row = (s["plain"], s["adapted"])
        shown.add_row(str(s["seed"]), *(f"{v:.4f}" for v in row), f"{row[1] - row[0]:+.4f}")
    total = summary(scores)
    cells = [
        f"{total[f'{n}/mean']:{sign}.4f} ± {total[f'{n}/std']:.4f}"
        for n, sign in (("plain", ""), ("adapted", ""), ("difference", "+"))
    ]
    shown.add_section()
    shown.add_row("mean", *cells)
    Console().print(shown)
