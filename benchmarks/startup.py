"""Seconds to the first training step of the default run against a bare import of its libraries.

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
BARE = "import os, torch, lightning.pytorch, transformers; t = os.times(); print(t.user + t.system)"
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


def bare() -> dict[str, float]:
    """Seconds of importing torch, lightning.pytorch and transformers."""
    wall, said = timed([sys.executable, "-c", BARE])
    return {"wall": wall, "cpu": float(said)}


def main() -> None:
    """Prints each pair, their ratios, and the seconds of commands that load nothing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("words", nargs="*", help="overrides of the run")
    args = parser.parse_args()
    first_step(args.words)
    ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
    for _ in range(args.runs):
        alone, run = bare(), first_step(args.words)
        for clock, found in ratios.items():
            found.append(run[clock] / alone[clock])
        print(f"bare import {alone}  first step {run}", flush=True)
    for clock, found in ratios.items():
        print(f"{clock}: {statistics.median(found):.2f} times the bare import (median of {found})")
    for words in MISTAKES:
        seconds, _ = timed([sys.executable, "train.py", *words])
        print(f"{' '.join(words):28} {seconds:.2f} s")


if __name__ == "__main__":
    main()
