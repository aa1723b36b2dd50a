"""Seconds to the first training step of each task against a bare import of its libraries.

    python benchmarks/startup.py

Both in turn, each a process of its own, after one run that fills the caches. Then the seconds of
`--help` and of some mistakes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
BARE = "import os, {}; t = os.times(); print(t.user + t.system)"
LIBRARIES = "torch, lightning.pytorch, transformers"
TASKS = {
    "sequence": LIBRARIES,
    "ner": LIBRARIES,
    "mlm": LIBRARIES,
    "setfit": f"{LIBRARIES}, sentence_transformers",
}
MISTAKES = (["--help"], ["task.lerning_rate=1"], ["task.learning_rate=fast"], ["resume=nowhere"])


def timed(command: list[str]) -> tuple[float, str]:
    """Seconds of a command, and what it printed."""
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    began = time.time()
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        env=os.environ | {"BEGAN": str(began), "PYTHONPATH": path, "WANDB_MODE": "offline"},
    )
    return time.time() - began, done.stdout


def first_step(words: list[str]) -> dict[str, float]:
    """Seconds until the first step of a run is done."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            sys.executable,
            "train.py",
            "+callbacks.first._target_=first_step.FirstStep",
            f"hydra.run.dir={directory}/run",
            *words,
        ]
        return json.loads(timed(command)[1].strip().splitlines()[-1])


def bare(libraries: str) -> dict[str, float]:
    """Seconds of importing libraries."""
    wall, said = timed([sys.executable, "-c", BARE.format(libraries)])
    return {"wall": wall, "cpu": float(said.split()[-1])}  # libraries may print, too


def compare(task: str, runs: int, words: list[str]) -> None:
    """Prints each pair of a task, and the medians of their ratios."""
    words = [f"task={task}", *words]
    first_step(words)
    ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
    for _ in range(runs):
        alone, run = bare(TASKS[task]), first_step(words)
        for clock, found in ratios.items():
            found.append(run[clock] / alone[clock])
        print(f"{task}: bare import {alone}  first step {run}", flush=True)
    for clock, found in ratios.items():
        median = statistics.median(found)
        print(f"{task} {clock}: {median:.2f} times the bare import (median of {found})")


def main() -> None:
    """Prints each pair, their ratios, and the seconds of commands that load nothing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("words", nargs="*", help="overrides of the runs")
    args = parser.parse_args()
    for task in args.tasks:
        compare(task, args.runs, args.words)
    for words in MISTAKES:
        seconds, _ = timed([sys.executable, "train.py", *words])
        print(f"{' '.join(words):28} {seconds:.2f} s")


if __name__ == "__main__":
    main()
