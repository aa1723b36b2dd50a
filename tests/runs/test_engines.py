"""Sweeps of four jobs on other engines than Hydra's own; each is an extra."""

import re
from functools import partial

import pytest

from helpers.sweeps import rows_of, sweep_of
from helpers.tiny import REPOSITORY
from helpers.warm import new_python
from thaw.cli.compose import explain


@pytest.fixture
def start_sweep(tmp_path):
    """`sweep_of` in a new process, in this test's directory."""
    return partial(sweep_of, cwd=tmp_path, start=new_python)


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    [
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
        ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"],
    ],
    ids=["joblib", "submitit", "ray"],
)
def test_a_launcher_runs_every_job_and_names_the_one_that_fails(
    engine, overrides, tmp_path, start_sweep
):
    plugin = engine[0].partition("=")[2].removesuffix("_local")
    pytest.importorskip(f"hydra_plugins.hydra_{plugin}_launcher")
    done, sweep = start_sweep(
        *overrides, *engine, "trainer.max_epochs=1", "freeze=last", "freeze.blocks=0,1,9,2"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert [r["status"] for r in rows_of(sweep)] == ["done", "done", "failed", "done"]
    assert rows_of(sweep)[2]["reason"].startswith("freeze.blocks=9: this model has 2 blocks")
    assert (sweep / "summary.md").exists()
    assert len(list(tmp_path.glob("multirun/*/*"))) == 1


@pytest.mark.slow
def test_a_launchers_jobs_may_have_processes_of_their_own(overrides, start_sweep):
    done, sweep = start_sweep(
        *overrides,
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "trainer.max_epochs=1",
        "seed=1,2",
        "trainer.devices=2",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [r["status"] for r in rows_of(sweep)] == ["done", "done"]


@pytest.mark.slow
def test_optuna_searches_over_the_watched_metric(overrides, start_sweep):
    searched = ("data.batch_size=", "task.learning_rate=")  # what is typed is not searched
    options = [w for w in overrides if not w.startswith(searched)]
    space = (
        "hydra.sweeper.params={task.learning_rate: 'tag(log, interval(1e-4, 1e-2))', "
        "data.batch_size: 'choice(8, 16)'}"
    )
    done, sweep = start_sweep(
        *options, "hparams_search=optuna", "hydra.sweeper.n_trials=4", "trainer.max_epochs=1", space
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(sweep)
    assert [r["status"] for r in rows] == ["done"] * 4
    assert len({r["task.learning_rate"] for r in rows}) == 4
    best = (sweep / "optimization_results.yaml").read_text()
    top = max(rows, key=lambda r: float(r["val/f1"]))
    assert f"best_value: {float(top['val/f1'])}" in best
    assert f"data.batch_size: {top['data.batch_size']}" in best
    page = (sweep / "report.html").read_text()
    assert "val/f1 against task.learning_rate" in page

    # A killed search goes on: its trials are drawn again, and those that are done are not repeated.
    (sweep / "3" / "metrics.json").unlink()
    search = (f"resume={sweep}", "hydra.sweeper.n_trials=5", space)
    done, again = start_sweep(*search)
    assert done.returncode == 0, done.stdout + done.stderr
    assert again == sweep
    assert done.stdout.count("done before") == 3
    assert len(rows_of(sweep)) == 5
    assert rows_of(sweep)[:3] == rows[:3]
    for key in ("task.learning_rate", "data.batch_size", "val/f1"):  # the same trial, run again
        assert rows_of(sweep)[3][key] == rows[3][key]
    done, _ = start_sweep(*search, "hydra.sweeper.sampler.seed=null")
    assert done.returncode == 2
    assert "this search has no seed, so its trials cannot be drawn again" in done.stderr


@pytest.mark.slow
def test_a_failed_trial_does_not_end_a_search(overrides, start_sweep):
    done, sweep = start_sweep(
        *overrides,
        "hparams_search=optuna",
        "hydra.sweeper.n_trials=4",
        "trainer.max_epochs=1",
        "freeze=last",
        "+hydra.sweeper.params={freeze.blocks: 'choice(1, 9)'}",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "of 4 jobs did not finish" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert {r["status"] for r in rows_of(sweep)} == {"done", "failed"}
    assert (sweep / "summary.md").exists()


@pytest.mark.slow
def test_a_search_all_of_whose_trials_fail_says_why_and_what_to_type(
    overrides, tmp_path, start_sweep
):
    done, sweep = start_sweep(
        *overrides,
        "hparams_search=optuna",
        "hydra.sweeper.n_trials=2",
        "freeze=last",
        "+hydra.sweeper.params={freeze.blocks: 'choice(8, 9)'}",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "thaw: 2 of 2 jobs did not finish. The first, job 0: freeze.blocks=" in done.stderr
    place = sweep.relative_to(tmp_path)
    assert f"Its log is {place}/0/train.log. `python train.py resume={place}` runs" in done.stderr
    assert "Without a score: 2 of 2 jobs." in (sweep / "summary.md").read_text()
    assert "this model has 2 blocks" in (sweep / "report.html").read_text()
    done, _ = start_sweep(f"resume={place}")
    assert "2 of 2 jobs did not finish" in done.stderr, "what it says to type works"


@pytest.mark.slow
def test_a_search_without_a_validation_ends_in_a_message(overrides, start_sweep):
    options = ["hparams_search=optuna", "hydra.sweeper.n_trials=1", "trainer.max_epochs=1"]
    unseen = ["data.validation=null", "task.warmup_ratio=interval(0.0,0.2)"]
    done, _ = start_sweep(*overrides, *options, *unseen)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "thaw: no trial of this search has measured val/f1." in done.stderr


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("task.lerning_rate=interval(1e-5,1e-3)", "Did you mean task.learning_rate"),
        ("+hydra.sweeper.params={task.lerning_rate: 'choice(1, 2)'}", "Did you mean task.learning"),
        (
            "hydra.sweeper.params={freeze.blocks: 'choice(1, 2)'}",
            "write it as '+hydra.sweeper.params",
        ),
        ("freeze=none,lasst", "Did you mean last"),
    ],
)
def test_a_misspelt_option_is_answered_before_a_search_begins(word, message, start_sweep):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    done, sweep = start_sweep("hparams_search=optuna", word)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "Study name" not in done.stdout + done.stderr
    assert sweep is None


@pytest.mark.parametrize("page", ["docs/freezing.md", "conf/hparams_search/optuna.yaml"])
def test_a_range_is_searched_as_the_documentation_types_it(page):
    plugin = pytest.importorskip("hydra_plugins.hydra_optuna_sweeper._impl")
    typed = re.findall(r"'(\S+=(?:interval|range)\(.*?\))'", (REPOSITORY / page).read_text())
    ranges, fixed = plugin.create_params_from_overrides(typed)
    assert list(ranges) == ["task.warmup_ratio"]
    assert not fixed


def test_a_search_needs_no_further_flag():
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    shown = new_python("-m", "thaw.start", "hparams_search=optuna", "--cfg", "hydra")
    assert "mode: MULTIRUN" in shown.stdout, shown.stderr


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("launcher/joblib", "not installed: pip install -e '.[joblib]'"),
        ("launcher/submitit_slurm", "not installed: pip install -e '.[submitit]'"),
        ("launcher/ray", "not installed: pip install -e '.[ray]'"),
        ("sweeper/optuna", "not installed: pip install -e '.[optuna]'"),
        ("launcher/abacus", "does not exist; thaw has extras for joblib, submitit, ray, optuna"),
    ],
)
def test_a_missing_engine_names_what_to_install(word, message):
    assert message in explain(Exception(f"Could not find 'hydra/{word}'"), [])[0]
