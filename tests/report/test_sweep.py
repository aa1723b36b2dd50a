"""The summary of a sweep, its failed jobs, and how it is resumed."""

import json

import pytest
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from helpers.sweeps import job, rows_of, scores, sweep_of
from helpers.tiny import REPOSITORY
from helpers.wandb_file import Offline
from helpers.warm import python
from thaw.cli.jobs import job_dir, read_jobs
from thaw.report.sweep import axes, log_summary_to_wandb, summarize, swept
from thaw.report.sweep_figures import sweep_panels


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
    summarize(tmp_path, jobs, "val/f1")
    table = (tmp_path / "summary.md").read_text().splitlines()
    assert table[0] == "| task.learning_rate | runs | test/f1 | seconds |"
    assert table[2:] == [
        "| 1e-4 | 2 | 0.7500 ± 0.0707 | 2.0 ± 0.0 |",
        "| 1e-3 | 2 | 0.5500 ± 0.0707 | 2.0 ± 0.0 |",
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
        summarize(tmp_path / name, read_jobs(tmp_path / name), "val/f1")
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
    panels, _ = sweep_panels([({"x": v}, [0.5], [2.0]) for v in values], ["x"], "test/f1")
    axes = Figure().subplots()
    panels[0](axes)
    assert axes.get_xscale() == scale
    assert [tick.get_text() for tick in axes.get_xticklabels()] == values


def test_a_failed_job_and_a_killed_one_are_in_the_summary(tmp_path):
    job(tmp_path, "0", "x=1", metrics=scores(0.5))
    job(tmp_path, "1", "x=2", reason="no\nroom | left")
    job(tmp_path, "2", "x=3")
    summarize(tmp_path, read_jobs(tmp_path), "val/f1")
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
    summarize(sweep, read_jobs(sweep), "val/f1")
    log_summary_to_wandb(OmegaConf.create({"logger": {"wandb": {"project": "curves"}}}), sweep)
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
    summarize(tmp_path, read_jobs(tmp_path), "val/f1")
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


def test_a_missing_sweep_and_a_single_run_cannot_be_resumed_as_a_sweep(overrides, tmp_path):
    done, _ = sweep_of(*overrides, "seed=1,2", "resume=nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "resume=nowhere: no sweep there" in done.stderr
    done = python(REPOSITORY / "train.py", *overrides, "resume=nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere: no such directory" in done.stderr
