"""The pages on adding something can be followed: their files are written, their commands run."""

import importlib
import json
import logging
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from helpers.tables import read_rows
from helpers.tiny import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("adding-a-*.md"))
FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w*\n(.*?)```", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```sh\n(.*?)```", re.MULTILINE | re.DOTALL)


def train_py(arguments):
    """Runs `python train.py` with these arguments in this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    sys.argv = ["train.py", *arguments]
    HydraConfig.instance().cfg = None
    GlobalHydra.instance().clear()
    try:
        runpy.run_path(str(REPOSITORY / "train.py"), run_name="__main__")
    finally:
        root.handlers[:], root.level = handlers, level
        HydraConfig.instance().cfg = None
        GlobalHydra.instance().clear()


@pytest.fixture
def follow(tmp_path, tiny_bert, reviews, monkeypatch):
    """Returns a function that follows a page with a tiny model and returns the directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", [])
    shutil.copytree(tiny_bert, tmp_path / "models" / "own")
    tiny = [
        "logger=csv",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "trainer.max_steps=2",
        "trainer.val_check_interval=1.0",
        "data.max_tokens=64",
        "data.batch_size=4",
        f"freeze.cache.path={tmp_path / 'prefix'}",
    ]

    def do(command):
        arguments = command.removeprefix("PYTHONPATH=. ").split()
        assert arguments.pop(0) == "python"
        if arguments[0] == "-m":
            quick = (
                ["trainer.accelerator=cpu"] if "evaluate" in arguments[1] else ["accelerator=cpu"]
            )
            sys.argv = arguments[1:]
            importlib.import_module(arguments[1]).main([*arguments[2:], *quick])
            return
        assert arguments.pop(0) == "thaw/train.py"
        own = [] if "model=own" in arguments else ["model.checkpoint=models/own"]
        if not any(word.startswith("data=") for word in arguments):
            own += ["data=files", f"data.train={reviews / 'train.csv'}", "data.test=0.2"]
        train_py([*arguments, *own, *tiny])

    def go(page):
        text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
        for name, content in FILE.findall(text):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(content, encoding="utf-8")
        commands = [line for block in COMMANDS.findall(text) for line in block.splitlines()]
        assert commands
        for command in commands:
            do(command)
        return tmp_path

    return go


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def test_there_is_a_page_for_each_extension_point():
    names = ["dataset", "freeze-strategy", "model", "task"]
    assert [f"adding-a-{name}" for name in names] == PAGES


def test_the_page_on_data_sets_can_be_followed(follow):
    place = follow("adding-a-dataset")
    assert "test/f1" in metrics_of(place / "runs" / "tickets")
    summary = next(place.glob("multirun/*/*/summary.md")).read_text()
    assert "| all | 3 |" in summary


def test_the_page_on_models_can_be_followed(follow, reviews):
    place = follow("adding-a-model")
    assert "test/f1" in metrics_of(place / "runs" / "own")
    assert f"# {reviews.name}: own" in (place / "runs" / "own" / "model" / "README.md").read_text()


def test_the_page_on_freeze_strategies_can_be_followed(follow):
    from safetensors.torch import load_file

    place = follow("adding-a-freeze-strategy")
    after = load_file(place / "runs" / "biases" / "model" / "model.safetensors")
    before = load_file(place / "models" / "own" / "model.safetensors")
    changed = {n for n in before if not before[n].equal(after[f"bert.{n}"])}
    inside = {n for n in changed if not n.startswith("pooler.")}
    assert inside
    assert all(n.endswith("bias") or "LayerNorm" in n for n in inside)
    assert any(n.endswith("LayerNorm.weight") for n in inside)


def test_the_page_on_tasks_can_be_followed(follow):
    place = follow("adding-a-task")
    metrics = metrics_of(place / "runs" / "repairs")
    assert {"test/mae", "test/loss", "val/loss"} <= set(metrics)
    predicted = list(read_rows(place / "predicted.csv"))
    assert len(predicted) == 16
    assert all(0 < float(row["prediction"]) < 20 for row in predicted)
