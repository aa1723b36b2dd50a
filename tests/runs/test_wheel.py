"""thaw as a wheel installs it, far from its clone."""

import json
import os
import subprocess
import sys

import pytest

from helpers.tiny import REPOSITORY


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Runs the console script of a wheel, installed into a directory, in another one."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    [wheel] = place.glob("*.whl")
    target = place / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, capture_output=True)
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    # What lies in PYTHONPATH comes before an editable install of the clone.
    env = os.environ | {"PYTHONPATH": str(target), "THAW_CACHE": str(place / "cache")}

    def run(*words):
        command = [str(target / "bin" / "thaw"), *map(str, words)]
        return subprocess.run(command, cwd=elsewhere, env=env, capture_output=True, text=True)

    run.directory = elsewhere
    run.target = target
    run.env = env
    return run


def test_the_wheel_holds_every_config(installed):
    def configs(root):
        return {p.relative_to(root) for p in root.rglob("*") if p.is_file()}

    assert configs(installed.target / "thaw" / "conf") == configs(REPOSITORY / "conf")


def test_a_run_is_trained_predicted_and_exported_without_the_clone(
    installed, overrides, reviews, tmp_path
):
    words = [*overrides, "trainer.max_epochs=1", "data.batch_size=4", "trainer.devices=2"]
    done = installed("train", *words, f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["steps"] == 8
    assert (tmp_path / "run" / "train.log").is_file()
    report = (tmp_path / "run" / "report.html").read_text()
    assert "2 cpu" in report, "two devices start the console script again"
    predicted = tmp_path / "predicted.jsonl"
    new = [f"input={reviews / 'test.csv'}", f"output={predicted}", "accelerator=cpu"]
    script = f"""
import sys, thaw
from thaw.__main__ import main

print(thaw.__file__, thaw.load({str(tmp_path / "run")!r}).labels)
sys.argv = ["thaw", "predict", {f"run={tmp_path}/run"!r}, *{new!r}]
try:
    main()
except SystemExit as end:
    assert not end.code
sys.argv = ["thaw", "evaluate", {f"run={tmp_path}/run"!r}, "trainer.accelerator=cpu"]
sys.argv += ["trainer.devices=1", "trainer.strategy=auto"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=installed.directory,
        env=installed.env,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(installed.target)), done.stderr
    assert "['neg', 'pos']" in done.stdout
    assert len(predicted.read_text().splitlines()) == 22, done.stderr
    assert "accuracy" in done.stdout, done.stderr


def test_configs_of_ones_own_are_found(installed, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("defaults: [files]\nname: mine\ntrain: a.csv\n")
    done = installed("train", "--config-dir", tmp_path, "data=mine", "--cfg", "job", "-p", "data")
    assert "name: mine" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "task=nre"), "Did you mean ner?"),
        (("predcit",), "there is no command 'predcit'. Did you mean predict?"),
        (("predict", "run=x"), "input must be given"),
    ],
)
def test_a_mistake_is_answered_with_code_2(installed, words, message):
    done = installed(*words)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_help_lists_the_commands(installed):
    assert "thaw <command>" in installed("--help").stdout
    assert "learning_rate" in installed("train", "--help").stdout
