"""The summary of a sweep, its failed jobs, and how it is resumed."""

import json

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from helpers.shared import copy_of
from helpers.sweeps import job, rows_of, scores, sweep_of
from helpers.tiny import REPOSITORY, write_csv
from helpers.wandb_file import Offline
from helpers.warm import python
from thaw.cli.jobs import Job, is_done, job_dir, read_jobs
from thaw.predict import main as predict
from thaw.report.groups import Group, axes, swept
from thaw.report.search import importance_table
from thaw.report.sweep import Summary, Sweep
from thaw.report.sweep_figures import search_panels, sweep_panels
from thaw.report.wandb_upload import log_sweep_to_wandb
from thaw.start import run_composed


def test_any_swept_key_is_an_axis_and_seeds_are_averaged(tmp_path):
    for number, (rate, seed) in enumerate([("1e-3", 1), ("1e-3", 2), ("1e-4", 1), ("1e-4", 2)]):
        job(
            tmp_path,
            str(number),
            "data=files",
            f"task.learning_rate={rate}",
            f"seed={seed}",
            metrics=scores(0.5 + number / 10),
        )
    jobs = read_jobs(tmp_path)
    assert swept(jobs) == ["task.learning_rate", "seed"]
    assert axes(swept(jobs)) == ["task.learning_rate"]
    Sweep(tmp_path, "val/f1").write()
    table = (tmp_path / "summary.md").read_text().splitlines()
    assert table[0] == "| task.learning_rate | runs | val/f1 | test/f1 | seconds |"
    assert table[2:] == [
        "| 1e-4 | 2 | 0.1000 ± 0.0000 ★ | 0.7500 ± 0.0707 | 2.0 ± 0.0 |",
        "| 1e-3 | 2 | 0.1000 ± 0.0000 | 0.5500 ± 0.0707 | 2.0 ± 0.0 |",
    ]
    assert (tmp_path / "summary.png").read_bytes().startswith(b"\x89PNG")
    assert [row["test/f1"] for row in rows_of(tmp_path)] == ["0.5", "0.6", "0.7", "0.8"]


def test_sweeps_of_names_of_two_keys_and_of_seeds_alone_are_drawn(tmp_path):
    for name, overrides in {
        "words": [["model=a", "x=1"], ["model=b", "x=1"], ["model=b", "x=2"]],
        "seeds": [["seed=1"], ["seed=2"]],
        "one": [["x=1"]],
    }.items():
        for number, typed in enumerate(overrides):
            job(tmp_path / name, str(number), *typed, metrics=scores(0.5))
        Sweep(tmp_path / name, "val/f1").write()
        assert (tmp_path / name / "summary.png").exists()


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (["4", "8", "64"], "log"),
        (["1e-5", "1e-3"], "log"),
        (["0", "6"], "linear"),
        (["1", "6"], "linear"),
        (["a", "b"], "linear"),
    ],
)
def test_values_that_span_a_factor_of_ten_are_drawn_on_a_logarithmic_axis(values, scale):
    table = [Group((v,), [Job("0", {"x": v}, {"val/f1": 0.5})]) for v in values]
    panels, _ = sweep_panels(table, ["x"], {"val/f1": "val/f1"})
    axes = Figure().subplots()
    panels["val/f1 against x"](axes)
    assert axes.get_xscale() == scale
    assert [tick.get_text() for tick in axes.get_xticklabels()] == values


@pytest.mark.parametrize(("mode", "chosen"), [("max", "1"), ("min", "2")])
def test_the_best_by_validation_is_marked_with_its_test_score_and_a_command(tmp_path, mode, chosen):
    # The test would choose otherwise: job 0.
    for number, (val, test) in enumerate([(0.5, 0.9), (0.8, 0.6), (0.4, 0.7)]):
        job(tmp_path, str(number), f"x={number}", metrics={"val/f1": val, "test/f1": test})
        (tmp_path / str(number) / "model").mkdir()
    Sweep(tmp_path, "val/f1", mode).write()
    told, page = (tmp_path / "summary.md").read_text(), (tmp_path / "report.html").read_text()
    marked = [line for line in told.splitlines() if "★ |" in line]
    assert [line.split(" | ")[0] for line in marked] == [f"| {chosen}"]
    command = f"python -m thaw.predict run={tmp_path / chosen} input=new.csv output=out.csv"
    assert command in told
    assert command in page
    assert page.count("★ <b>best</b>") == 1


def test_the_best_of_repeated_runs_is_one_of_those_with_the_best_mean(tmp_path):
    for number, (x, seed, val) in enumerate([(0, 1, 0.9), (0, 2, 0.1), (1, 1, 0.6), (1, 2, 0.7)]):
        job(tmp_path, str(number), f"x={x}", f"seed={seed}", metrics={"val/f1": val})
        (tmp_path / str(number) / "model").mkdir()
    told = Sweep(tmp_path, "val/f1").write()
    assert "Of the runs whose mean val/f1 is the best, the best is job 3: val/f1 0.7000." in told


def test_folds_are_not_compared_and_without_validation_nothing_is_chosen(tmp_path):
    for number in range(2):
        job(tmp_path / "folds", str(number), f"data.fold={number}", metrics=scores(0.5))
        job(tmp_path / "test", str(number), f"x={number}", metrics={"test/f1": 0.5})
    for name in ("folds", "test"):
        Sweep(tmp_path / name, "val/f1").write()
        assert "★" not in (tmp_path / name / "summary.md").read_text()


def test_folds_are_points_without_a_line():
    folds = [Group((n,), [Job(n, {}, {"val/f1": 0.5, "fit_seconds": 9.0})]) for n in "012"]
    panels, _ = sweep_panels(folds, ["data.fold"], {"val/f1": "val/f1", "fit_seconds": "seconds"})
    score, seconds = Figure().subplots(1, 2)
    panels["val/f1 against data.fold"](score)
    panels["seconds against data.fold"](seconds)
    assert [line.get_linestyle() for line in score.get_lines()[:1]] == ["None"]
    assert seconds.get_ylim()[0] == 0
    assert seconds.get_ylim()[1] > 9.0


@pytest.mark.parametrize(
    ("key", "shown"), [("seed", True), ("data.fold", True), ("task.learning_rate", False)]
)
def test_seeds_and_folds_are_offered_as_one_model(finished, tmp_path, key, shown):
    sweep = tmp_path / "sweep"
    for number in range(2):
        copied = copy_of(finished(), sweep / str(number))
        (copied / ".hydra" / "overrides.yaml").write_text(f"- {key}={number}\n")
    (sweep / "multirun.yaml").write_text("hydra: {}")
    told = Sweep(sweep, "val/f1").write()
    command = f"python -m thaw.predict run={sweep} input=new.csv output=out.csv"
    assert (command in told) == (command in (sweep / "report.html").read_text()) == shown
    if shown:
        assert "The 2 models as one" in told
        path = write_csv(tmp_path / "new.csv", [["a warm film"]], ["text"])
        assert predict([f"run={sweep}", f"input={path}", f"output={tmp_path / 'out.csv'}"]) == 1


def test_models_that_cannot_be_averaged_are_not_offered_as_one(finished, tmp_path):
    for number in range(2):
        copied = copy_of(finished("task=mlm", "task.probes=[]"), tmp_path / "s" / str(number))
        (copied / ".hydra" / "overrides.yaml").write_text(f"- seed={number}\n")
    (tmp_path / "s" / "multirun.yaml").write_text("hydra: {}")
    told = Sweep(tmp_path / "s", "val/loss", "min").write()
    assert "as one" not in told


def test_a_job_without_validation_stays_in_the_summary_and_is_not_chosen(tmp_path):
    job(tmp_path, "0", "x=1", metrics={"test/f1": 0.9})
    job(tmp_path, "1", "x=2", metrics={"val/f1": 0.5, "test/f1": 0.4})
    Sweep(tmp_path, "val/f1").write()
    rows = (tmp_path / "summary.md").read_text().splitlines()[2:]
    assert rows == ["| 1 | 1 |  | 0.9000 |  |", "| 2 | 1 | 0.5000 ★ | 0.4000 |  |"]


def test_a_search_draws_its_trials_and_the_importance_of_its_parameters(tmp_path):
    distributions = pytest.importorskip("optuna").distributions
    space = {
        "task.learning_rate": distributions.LogUniformDistribution(1e-5, 1e-3),
        "data.batch_size": distributions.CategoricalDistribution((16, 32)),
    }
    for number in range(8):
        rate, size = 1.2345678e-5 * 1.7**number, (16, 32)[number % 2]
        typed = (f"task.learning_rate={rate}", f"data.batch_size={size}")
        metrics = {"val/f1": number / 10, "test/f1": 0.5, "fit_seconds": 2.0}
        job(tmp_path, str(number), *typed, metrics=metrics)
    Sweep(tmp_path, "val/f1", "max", space).write()
    page = (tmp_path / "report.html").read_text()
    rows = importance_table(read_jobs(tmp_path), space, "val/f1", "max").rows
    assert rows[0][0] == "task.learning_rate"
    assert sum(share for _, share in rows) == pytest.approx(1)
    assert "parameter importance" in page
    assert "val/f1 against task.learning_rate" in page
    assert ">1.23e-05<" in page
    best = (tmp_path / "summary.md").read_text().splitlines()[2]
    assert best == "| 0.000507 | 32 | 1 | 0.7000 ★ | 0.5000 | 2.0 |"
    assert importance_table(read_jobs(tmp_path)[:4], space, "val/f1", "max") is None
    assert importance_table([], space, "val/f1", "max") is None


def test_trials_without_a_score_are_counted_and_listed_with_the_reason(tmp_path):
    pytest.importorskip("optuna")
    job(tmp_path, "0", "x=1", metrics=scores(0.5))
    job(tmp_path, "1", "x=2", metrics={"test/f1": 0.9})
    job(tmp_path, "2", "x=3", metrics={"val/f1": float("nan")})
    job(tmp_path, "3", "x=4", reason="no room")
    job(tmp_path, "4", "x=5")
    told = Sweep(tmp_path, "val/f1", "max", {}).write()
    assert told.splitlines()[2:12] == [
        "| 1 | 1 | 0.1000 ★ | 0.5000 | 2.0 |",
        "",
        "Without a score: 4 of 5 jobs.",
        "",
        "| job | x | status | reason |",
        "| --- | --- | --- | --- |",
        "| 1 | 2 | done | no val/f1 |",
        "| 2 | 3 | done | val/f1 is nan |",
        "| 3 | 4 | failed | no room |",
        "| 4 | 5 | unfinished | it was stopped before its end |",
    ]
    page = (tmp_path / "report.html").read_text()
    assert "<li>without a score <b>4</b></li>" in page
    assert all(said in page for said in ("no val/f1", "val/f1 is nan", "stopped before its end"))


def test_a_score_that_is_no_number_fails_its_trial_and_does_not_end_the_search():
    config = OmegaConf.create({"hydra": {"mode": RunMode.MULTIRUN}})
    for score, told in ((float("nan"), None), (0.5, 0.5)):
        done = JobReturn(status=JobStatus.COMPLETED)
        done.return_value = score
        Summary().on_job_end(config, done)
        assert done.return_value == told


def test_trials_stand_on_the_axis_of_their_distribution_without_a_line():
    trials = [
        Group((rate, size), [Job(rate, {}, {"val/f1": value})])
        for rate, size, value in [("1e-5", "16", 0.1), ("3e-5", "32", 0.4), ("2e-5", "16", 0.3)]
    ]
    names = ["task.learning_rate", "data.batch_size"]
    panels = search_panels(trials, names, "val/f1", {"task.learning_rate"}, trials[1])
    rates, sizes = Figure().subplots(1, 2)
    panels["val/f1 against task.learning_rate"](rates)
    panels["val/f1 against data.batch_size"](sizes)
    assert (rates.get_xscale(), sizes.get_xscale()) == ("log", "linear")
    assert rates.get_lines() == []
    assert [*rates.collections[-1].get_offsets()[0]] == [3e-5, 0.4]
    assert [tick.get_text() for tick in sizes.get_xticklabels()] == ["16", "32"]


def test_a_job_that_is_done_tells_a_resumed_search_its_score(tmp_path):
    job(tmp_path, "0", "x=1", metrics=scores(0.5))
    cfg = OmegaConf.create({"resume": str(tmp_path), "run_dir": str(tmp_path / "0")})
    assert is_done(cfg)
    assert run_composed(OmegaConf.merge(cfg, {"monitor": "val/f1"})) == 0.1


def test_a_failed_job_and_a_killed_one_are_in_the_summary(tmp_path):
    job(tmp_path, "0", "x=1", metrics=scores(0.5))
    job(tmp_path, "1", "x=2", reason="no\nroom | left")
    job(tmp_path, "2", "x=3")
    Sweep(tmp_path, "val/f1").write()
    assert [(r["x"], r["status"]) for r in rows_of(tmp_path)] == [
        ("1", "done"),
        ("2", "failed"),
        ("3", "unfinished"),
    ]
    assert rows_of(tmp_path)[1]["reason"] == "no\nroom | left"
    assert "| 1 | 2 | failed | no room \\| left |" in (tmp_path / "summary.md").read_text()


def test_table_and_figure_are_logged_to_wandb_as_a_run_of_the_sweeps_group(tmp_path):
    sweep = tmp_path / "12-30-00"
    for number in range(2):
        job(sweep, str(number), f"freeze.blocks={number}", metrics=scores(0.5))
    Sweep(sweep, "val/f1").write()
    log_sweep_to_wandb("curves", sweep)
    [run] = sweep.glob("wandb/offline-run-*")
    [table] = run.glob("files/media/table/summary*.json")
    assert json.loads(table.read_text())["data"][1][:3] == ["1", "done", "1"]
    [figure] = run.glob("files/media/images/figure*.png")
    assert figure.read_bytes() == (sweep / "summary.png").read_bytes()
    [report] = run.glob("files/media/html/report*.html")
    assert report.read_text() == (sweep / "report.html").read_text()
    assert Offline(sweep).group == "12-30-00"


def test_a_sweep_without_a_finished_job_has_a_summary_too(tmp_path):
    job(tmp_path, "0", "x=1", reason="no")
    Sweep(tmp_path, "val/f1").write()
    assert not (tmp_path / "summary.png").exists()


def test_a_resumed_sweep_finds_the_directory_of_a_job_by_its_overrides(tmp_path):
    job(tmp_path, "0", "x=1", "resume=old")
    job(tmp_path, "1", "x=2")
    sweep = str(tmp_path)
    assert job_dir(sweep, None, 5, ["x=2"]) == "5"
    assert job_dir(sweep, sweep, 5, ["x=2", f"resume={sweep}"]) == "1"
    new = job_dir(sweep, sweep, 0, ["x=3", f"resume={sweep}"])
    assert new not in ("0", "1")
    assert job_dir(sweep, "again", 7, ["x=3", "resume=again"]) == new


def test_a_failed_job_is_reported_and_its_sweep_can_be_resumed(overrides, tmp_path):
    options = [*overrides, "freeze=last", "trainer.max_epochs=1"]
    done, sweep = sweep_of(*options, "freeze.blocks=0,9,1", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 of 3 jobs did not finish" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [r["status"] for r in rows_of(sweep)] == ["done", "failed", "done"]
    assert rows_of(sweep)[1]["reason"].startswith("freeze.blocks=9: this model has 2 blocks")
    before = {name: (sweep / name / "metrics.json").stat().st_mtime_ns for name in "02"}

    (sweep / "2" / "metrics.json").unlink()  # as if killed at its end
    done, again = sweep_of(*options, "freeze.blocks=0,1,2", f"resume={sweep}", cwd=tmp_path)
    assert done.returncode == 1  # the failed one is still among them
    assert again == sweep
    assert done.stdout.count("done before") == 1
    assert done.stdout.count("going on after step 8, from last.ckpt") == 1
    after = (sweep / "0" / "metrics.json").stat().st_mtime_ns
    assert after == before["0"]
    assert (sweep / "2" / "metrics.json").stat().st_mtime_ns > before["2"]
    found = {r["freeze.blocks"]: r["status"] for r in rows_of(sweep)}
    assert found == {"0": "done", "9": "failed", "1": "done", "2": "done"}


def test_a_new_sweep_does_not_begin_where_another_has_run(overrides, tmp_path):
    there = tmp_path / "a sweep"
    job(there, "0", "freeze.blocks=7", metrics=scores(0.5))
    (there / "0" / "versions.json").write_text("{}")
    (there / "multirun.yaml").touch()
    kept = (there / "0" / ".hydra" / "overrides.yaml").read_bytes()
    done, _ = sweep_of(*overrides, "seed=1,2", f"hydra.sweep.dir='{there}'", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{there / '0'} holds a run already: leave hydra.sweep.dir out" in done.stderr
    assert f"python train.py 'resume={there}'" in done.stderr
    assert (there / "0" / ".hydra" / "overrides.yaml").read_bytes() == kept


def test_a_missing_sweep_and_a_single_run_cannot_be_resumed_as_a_sweep(overrides, tmp_path):
    done, _ = sweep_of(*overrides, "seed=1,2", "resume=nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "resume=nowhere: no sweep there" in done.stderr
    done = python(REPOSITORY / "train.py", *overrides, "resume=nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere: no such directory" in done.stderr
