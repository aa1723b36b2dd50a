"""Writes what a finished run leaves in its directory."""

import json
import logging
import os
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from thaw.cli.check import model_text
from thaw.cli.kept_config import load_yaml
from thaw.data.read.rows import number_of
from thaw.encoder.blocks import parameter_rows
from thaw.report.figures import learning_curve, metrics_table
from thaw.report.html_page import now, page
from thaw.report.model_card import model_card
from thaw.report.model_dir import export, freeze_text, loading_code
from thaw.report.sections import Findings, Image, Section, Table, TestResults
from thaw.report.tables import data_tables, headline, score_tables, warning_table
from thaw.storage.files import read_json, write_atomic
from thaw.training.callbacks.plan import epochs_of, trained, why_ended
from thaw.training.run_dir import Run

log = logging.getLogger(__name__)

TOOK = (  # of metrics.json: key, name, unit, digits
    ("train_seconds", "training", " s", 1),
    ("fit_seconds", "with validation", " s", 1),
    ("samples_per_second", "texts a second", "", 1),
    ("steps", "steps", "", 0),
    ("best_step", "best step", "", 0),
    ("peak_memory_mib", "peak memory", " MiB", 0),
    ("prefix_seconds", "computing frozen blocks", " s", 1),
)


def write_run(
    run: Run, task: Any, data: Any, best: Mapping[str, float], test: TestResults | None
) -> tuple[dict[str, float], Findings]:
    """Writes metrics, predictions, figures, `report.html` and `model/`, and prints the closing
    table; returns all metrics, as metrics.json holds them, and what the report shows.

    Args:
        run: the run.
        task: the task with the weights to export.
        data: the datamodule.
        best: metrics of these weights and of training, flat names to numbers.
        test: the results of the test; None: there was none.
    """
    directory = run.dir
    metrics = {**best, **(test.metrics if test else {}), **task.frozen_blocks.metrics()}
    metrics |= task.finish(directory)
    card = model_card(run.config, metrics, task, data, trained(task.trainer))
    export(task, data, card, directory)  # first: what would be missed most
    sections = [
        learning_curve(directory / "metrics.csv", run.config["monitor"], metrics.get("best_step")),
        *(task.write_test(directory, data, test) if test else []),
        *task.findings(metrics),
    ]
    for section in sections:
        if isinstance(section, Image) and section.png:
            write_atomic(directory / section.file, section.png)
    summary = json.dumps(data.summary().numbers(), indent=2)
    write_atomic(directory / "data.json", summary + "\n")
    findings = findings_of(run, task, data, metrics, sections)
    write_atomic(directory / "report.html", page("run.html", run=findings))
    # Last: its presence says that the run is finished.
    write_atomic(directory / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    metrics_table(metrics)
    print(f"run directory: {directory}")
    return metrics, findings


def findings_of(
    run: Run, task: Any, data: Any, metrics: Mapping[str, float], sections: list[Section]
) -> Findings:
    """Returns what the report shows of a run; for the arguments see `write_run`."""
    run_dir, cfg = run.dir, run.config
    score = headline(metrics, cfg["monitor"])
    names, *parts = parameter_rows(task)
    return Findings(
        title=f"{cfg['task']['_target_'].split('.')[-2]} on {data.name}",
        facts=[
            ("model", model_text(cfg["model"])),
            ("freeze", freeze_text(cfg["freeze"])),
            ("seed", str(cfg["seed"])),
            ("texts", ", ".join(f"{v} {k}" for k, v in data.sizes().items())),
            ("epochs trained", trained(task.trainer)),
            ("training ended", why_ended(task.trainer)),
            ("weights", weights(task.trainer, metrics, cfg["monitor"])),
            ("finished", now()),
        ],
        headline=None if score is None else (score, metrics[score]),
        numbers=[(n, f"{metrics[k]:,.{d}f}{unit}") for k, n, unit, d in TOOK if k in metrics],
        scores=score_tables(metrics),
        sections=[*sections, *warning_table(run.warnings), *data_tables(data.summary())],
        trains=Table("what trained", names, parts),
        usage=usage(run_dir, task, data),
        config=OmegaConf.to_yaml(OmegaConf.create(dict(cfg))),
        environment=machine(task) | read_json(run_dir / "versions.json"),
    )


def weights(trainer: Any, metrics: Mapping[str, float], monitor: str) -> str:
    """Returns which weights are tested and exported: those of the best step, or the last ones."""
    step = metrics.get("best_step")
    if step is None:
        return "of the last step"
    epochs = epochs_of(trainer, step)
    when = f", after {number_of(epochs, 'epochs')}" if epochs else ""
    score = f" ({monitor} {metrics[monitor]:.4f})" if monitor in metrics else ""
    return f"of step {step:.0f}{when}, the best by validation{score}"


def usage(run_dir: Path, task: Any, data: Any) -> list[tuple[str, str]]:
    """Returns ways to use a run, each with its purpose and what to type."""
    predict, evaluate = task.examples
    typed = load_yaml(run_dir / ".hydra" / "overrides.yaml") or ()
    own = [override for override in typed if override in ("data=files", "data=conll")]
    files = [path for s in data.summary().sources if (path := Path(s.origin)).is_file()]
    if own and files:  # files of the same format are read with the same options
        name = f"data.test=other{''.join(files[0].suffixes[-2:])}"
        evaluate = f"{own[-1]} {shlex.quote(name)}"
    run = shlex.quote(f"run={run_dir}")
    code = loading_code(task, data, str(run_dir / "model"))
    untested = "validation" in data.rows and "test" not in data.rows
    scores = ("score validation, each label too", f"python -m thaw.evaluate {run} split=validation")
    return [
        ("predict", f"python -m thaw.predict {run} {predict}"),
        *([scores] if untested else []),
        ("score other data", f"python -m thaw.evaluate {run} {evaluate}"),
        ("predict from Python", f"import thaw\n\nthaw.load({str(run_dir)!r}).predict([...])"),
        ("load without thaw", code),
    ]


def machine(task: Any) -> dict[str, str]:
    """Returns system, processor, GPU, devices and precision of a run, but not the host's name."""
    trainer, found = task.trainer, {"system": f"{platform.system()} {platform.machine()}"}
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found["processor"] = f"{models[0] if models else platform.processor()}, {cores} cores"
    if torch.cuda.is_available():
        found["GPU"] = torch.cuda.get_device_name()
    kind = trainer.strategy.root_device.type
    return found | {"devices": f"{trainer.world_size} {kind}", "precision": str(trainer.precision)}
