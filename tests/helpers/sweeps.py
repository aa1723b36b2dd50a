"""Makes and reads the directories of sweeps."""

import csv
import json
import os
import subprocess
import sys

from helpers.tiny import REPOSITORY


def job(sweep, name, *overrides, metrics=None, reason=None):
    directory = sweep / name
    (directory / ".hydra").mkdir(parents=True)
    (directory / ".hydra" / "overrides.yaml").write_text("".join(f"- {w}\n" for w in overrides))
    if metrics:
        (directory / "metrics.json").write_text(json.dumps(metrics))
    if reason:
        (directory / "failed.json").write_text(json.dumps({"reason": reason}))


def scores(value):
    return {"val/f1": 0.1, "test/f1": value, "fit_seconds": 2.0}


def rows_of(sweep):
    with open(sweep / "summary.csv", newline="") as file:
        return list(csv.DictReader(file))


def sweep_of(*overrides, cwd):
    done = subprocess.run(
        [sys.executable, REPOSITORY / "train.py", "-m", *overrides],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"THAW_CACHE": str(cwd / "c")},
    )
    return done, next(iter(cwd.glob("multirun/*/*")), None)
