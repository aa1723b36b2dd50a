"""Sweeps of four jobs on other engines than Hydra's own; each is an extra, skipped without it."""

import importlib.util
import os
import subprocess
import sys

import pytest
from test_sweep import rows_of, sweep_of

from conftest import REPOSITORY


def needs(plugin, there=True):
    """Skips without a plugin of Hydra, or with it; nothing of it is imported here."""
    found = importlib.util.find_spec("hydra_plugins") and importlib.util.find_spec(
        f"hydra_plugins.{plugin}"
    )
    reason = f"{'no' if there else 'has'} {plugin}"
    return pytest.mark.skipif(bool(found) != there, reason=reason)


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
                     marks=needs("hydra_joblib_launcher")),
        pytest.param(["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
                     marks=needs("hydra_submitit_launcher")),
    ],
    ids=["joblib", "submitit"],
)  # fmt: skip
def test_a_launcher_runs_every_job_and_tells_of_the_one_that_fails(engine, overrides, tmp_path):
    done, sweep = sweep_of(
        *overrides, *engine, "trainer.max_epochs=1", "freeze=last", "freeze.blocks=0,1,9,2",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert [r["status"] for r in rows_of(sweep)] == ["done", "done", "failed", "done"]
    assert rows_of(sweep)[2]["reason"].startswith("freeze.blocks=9: this model has 2 blocks")
    assert (sweep / "summary.md").exists()
    assert len(list(tmp_path.glob("multirun/*/*"))) == 1


@needs("hydra_joblib_launcher")
def test_a_launchers_jobs_may_have_processes_of_their_own(overrides, tmp_path):
    done, sweep = sweep_of(
        *overrides, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.max_epochs=1",
        "seed=1,2", "trainer.devices=2", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [r["status"] for r in rows_of(sweep)] == ["done", "done"]


@needs("hydra_optuna_sweeper")
def test_optuna_searches_over_the_watched_metric(overrides, tmp_path):
    words = [w for w in overrides if not w.startswith("data.batch_size")]
    done, sweep = sweep_of(
        *words, "hparams_search=optuna", "hydra.sweeper.n_trials=4", "trainer.max_epochs=1",
        "hydra.sweeper.params={task.learning_rate: 'tag(log, interval(1e-4, 1e-2))', "
        "data.batch_size: 'choice(8, 16)'}",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(sweep)
    assert [r["status"] for r in rows] == ["done"] * 4
    assert len({r["task.learning_rate"] for r in rows}) == 4
    best = (sweep / "optimization_results.yaml").read_text()
    top = max(rows, key=lambda r: float(r["val/f1"]))
    assert f"best_value: {float(top['val/f1'])}" in best
    assert f"data.batch_size: {top['data.batch_size']}" in best


@pytest.mark.parametrize(
    ("word", "message"),
    [
        pytest.param("hydra/launcher=joblib", "not installed: pip install -e '.[joblib]'",
                     marks=needs("hydra_joblib_launcher", there=False)),
        pytest.param("hparams_search=optuna", "not installed: pip install -e '.[optuna]'",
                     marks=needs("hydra_optuna_sweeper", there=False)),
        ("hydra/launcher=abacus", "does not exist; thaw has extras for joblib, submitit, optuna"),
    ],
)  # fmt: skip
def test_an_engine_that_is_not_there_says_what_to_install(word, message, tmp_path):
    done = subprocess.run(
        [sys.executable, REPOSITORY / "train.py", "-m", word, "seed=1,2"],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
