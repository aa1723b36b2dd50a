"""experiment=chapter/adapt: three runs a seed, and their scores side by side."""

import json
import subprocess
import sys

import pytest

from helpers.sweeps import rows_of
from helpers.tiny import REPOSITORY
from thaw.adapt import summary
from thaw.evaluate import main as evaluate
from thaw.predict import main as predict


def test_summary_by_hand():
    got = summary([{"plain": 0.5, "adapted": 0.6}, {"plain": 0.7, "adapted": 0.6}])
    assert got["plain/mean"] == pytest.approx(0.6)
    assert got["adapted/std"] == 0
    assert got["difference/mean"] == pytest.approx(0.0)
    assert got["difference/std"] == pytest.approx(0.1414, abs=1e-4)


def test_each_seed_pretrains_and_classifies_with_and_without(overrides, tmp_path, capsys):
    options = [w for w in overrides if not w.startswith("trainer.max_epochs")]
    done = subprocess.run(
        [
            sys.executable,
            "train.py",
            "experiment=chapter/adapt",
            *options,
            "adapt.seeds=[1,2]",
            "data.label=label",
            "trainer.max_epochs=1",
            'adapt.pretrain=["task=mlm","data.batch_size=16"]',
            f"hydra.run.dir={tmp_path / 'run'}",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert [s["seed"] for s in scores] == [1, 2]
    for s in scores:
        for name in ("plain", "adapted"):
            path = tmp_path / "run" / f"seed-{s['seed']}" / name
            assert json.loads((path / "metrics.json").read_text())["test/f1"] == s[name]
            assert f"{s[name]:.4f}" in done.stdout
    card = (tmp_path / "run" / "seed-2" / "adapted" / "model" / "README.md").read_text()
    assert "seed-2/pretrain/model" in card
    mean = json.loads((tmp_path / "run" / "metrics.json").read_text())["difference/mean"]
    assert mean == pytest.approx(sum(s["adapted"] - s["plain"] for s in scores) / 2)
    report = (tmp_path / "run" / "report.html").read_text()
    for s in scores:
        link = f"seed-{s['seed']}/adapted/report.html"
        assert f'href="{link}"' in report
        assert (tmp_path / "run" / link).exists()
        assert f"{s['adapted']:.4f}" in report
    pretrained = tmp_path / "run" / "seed-1" / "pretrain"
    shown = (pretrained / "report.html").read_text()
    metrics = json.loads((pretrained / "metrics.json").read_text())
    for name in ("start/frozen_f1", "val/frozen_f1"):  # of the labels that classification reads
        assert 0 < metrics[name] <= 1
        assert f"{metrics[name]:.4f}" in shown.partition("frozen encoder")[2]
    assert "val/frozen_f1" in (pretrained / "metrics.csv").read_text()
    again = evaluate([f"run={pretrained}", "trainer.accelerator=cpu"])
    assert again["test/loss"] == pytest.approx(metrics["test/loss"], rel=1e-5)
    head = json.loads((pretrained / "head" / "metrics.json").read_text())
    assert head["val/loss"] == pytest.approx(metrics["start/loss"], rel=1e-4)  # it goes on there
    assert head["start/loss"] != head["val/loss"]
    before = (tmp_path / "run" / "scores.json").read_text()
    for path in ("metrics.json", "seed-2/adapted/metrics.json"):  # as if killed in the last run
        (tmp_path / "run" / path).unlink()
    done = subprocess.run(
        [sys.executable, "train.py", f"resume={tmp_path / 'run'}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("going on after step") == 1
    assert (tmp_path / "run" / "scores.json").read_text() == before
    (tmp_path / "new.txt").write_text("a good film\n")
    run = tmp_path / "run" / "seed-1" / "adapted"
    assert predict([f"run={run}", f"input={tmp_path / 'new.txt'}", "accelerator=cpu"]) == 1


def test_the_curve_is_a_sweep_whose_jobs_share_a_pretrained_encoder(overrides, tmp_path):
    sweep = tmp_path / "sweep"
    command = [sys.executable, REPOSITORY / "train.py", "experiment=adaptation_curve", *overrides]
    command += ["data.shots=2,4", "data.steps=2", "seed=1", "data.label=label", "task=setfit"]
    command += ["trainer.max_epochs=1", f"hydra.sweep.dir={sweep}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(sweep)
    assert [row["status"] for row in rows] == ["done"] * 4
    assert [row["adapt.pretrained"] for row in rows] == ["False", "True"] * 2
    assert done.stdout.count("probes, end") == 1
    header = (sweep / "summary.md").read_text().splitlines()[0]
    assert header.startswith("| data.shots | adapt.pretrained | runs | test/f1")
    for row in rows:
        card = (sweep / row["job"] / "model" / "README.md").read_text()
        assert ("pretrain/seed-1/model" in card) == (row["adapt.pretrained"] == "True")
