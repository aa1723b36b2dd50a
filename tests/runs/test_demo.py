"""The default run on real weights and reviews, from the package index."""

import json
import subprocess
import sys

import pytest

from helpers.tiny import REPOSITORY


@pytest.mark.slow
def test_the_default_run_beats_the_baselines_of_the_readme(tmp_path):
    subprocess.run(
        [sys.executable, "train.py", "logger=none", f"hydra.run.dir={tmp_path}"],
        cwd=REPOSITORY,
        check=True,
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["test/f1"] > 0.79
