"""Makes and reads the directories of sweeps."""

import csv
import json

from helpers.tiny import REPOSITORY
from helpers.warm import python


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


def sweep_of(*overrides, cwd, start=python):
    """A sweep as a user types it in `cwd`, and its directory."""
    env = {"THAW_CACHE": str(cwd / "c")}
    done = start(REPOSITORY / "train.py", "-m", *overrides, cwd=cwd, env=env)
    return done, next(iter(cwd.glob("multirun/*/*")), None)
