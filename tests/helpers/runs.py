"""Starts runs as a user does, and reads what they leave."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from helpers.tiny import REPOSITORY
from helpers.warm import FOR_CHECKS, python


def metrics_of(directory):
    return json.loads((directory / "metrics.json").read_text())


def start(overrides, directory, **env):
    """`python train.py` as a user starts it, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "train.py", *overrides, f"hydra.run.dir={directory}"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | env,
    )


def overrides_of(task, overrides, ner_overrides, checkpoint):
    options = ner_overrides if task == "ner" else overrides
    options = [w for w in options if not w.startswith(("model.checkpoint=", "data.label"))]
    own = [f"task={task}"] if task != "ner" else []
    own += {"mlm": ["task.probes=[]"], "setfit": ["task.shots=8", "task.steps=4"]}.get(task, [])
    return [*options, *own, f"model.checkpoint={checkpoint}", "trainer.max_epochs=1"]


def typed(overrides, directory):
    """`python train.py` with these overrides, as a user types them."""
    return python("train.py", *overrides, f"hydra.run.dir={directory}")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def files_of(directory):
    """What a run leaves, W&B's and Hydra's own apart."""
    names = (p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())
    return {n for n in names if not n.startswith(("wandb", ".hydra"))}


HEAVY = ("torch", "lightning", "transformers", "datasets", "wandb", "torchmetrics")


def loaded_after(*overrides):
    """What `python train.py` with these overrides has imported of `HEAVY`, its exit code and
    errors."""
    script = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    code = end.code\n"
        "else:\n"
        "    code = 0\n"
        f"heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "print('loaded', code, *heavy)\n"
    )
    done = python("-c", script, *overrides, modules=FOR_CHECKS)
    _, code, *heavy = done.stdout.splitlines()[-1].split()
    return int(code), heavy, done.stderr


TIMES = ("seconds", "per_second", "_mib")


def result(directory: Path) -> tuple[Any, ...]:
    """All that a run gives, times and memory apart: metrics, weights, predictions, probes."""
    metrics = json.loads((directory / "metrics.json").read_text())
    weights = load_file(directory / "model" / "model.safetensors")
    names = ("predictions.parquet", "predictions.jsonl", "probes.json", "model/head.safetensors")
    return (
        {k: v for k, v in metrics.items() if not k.endswith(TIMES)},
        {name: tensor.numpy().tobytes() for name, tensor in weights.items()},
        [(directory / n).read_bytes() for n in names if (directory / n).exists()],
    )


def curve(directory: Path) -> list[Any]:
    """The rows of metrics.csv, in an order that does not depend on that of its columns."""
    with open(directory / "metrics.csv", newline="") as file:
        rows = [r.items() for r in csv.DictReader(file)]
    return [
        sorted((k, v) for k, v in row if not k.endswith((*TIMES, "per_second"))) for row in rows
    ]
