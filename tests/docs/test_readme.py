"""Every command in the documentation composes into a config that passes the checks, and every link
leads somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from helpers.tiny import REPOSITORY
from thaw.cli.check import verify
from thaw.cli.compose import compose

PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
TRAIN = "python train.py"


def commands():
    """Returns the commands of all pages, each once."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        spans = re.findall(rf"`({TRAIN}[^`]*)`", text)
        lines = re.findall(rf"^(?:\.venv/bin/)?({TRAIN}.*)$", text, re.MULTILINE)
        for command in [*spans, *lines]:
            command = " ".join(command.replace(r"\|", "|").split())
            if not {"...", "GROUP=CHOICE", "--help"} & set(command.split()):
                found.setdefault(command.partition(" # ")[0], page.name)
    return sorted(found)


def first_values(overrides):
    """Yields overrides, with the first value of each that is swept."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    for word, override in zip(overrides, parsed, strict=True):
        if override.is_sweep_override():
            value = next(iter(override.sweep_string_iterator()))
            yield f"{word.partition('=')[0]}={value}"
        else:
            yield word


@pytest.mark.parametrize("command", commands())
def test_a_command_composes_and_passes_the_checks(command, tiny_bert, tmp_path, monkeypatch):
    if "launcher=ray" in command:  # an extra that is not in the tests' environment
        pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    monkeypatch.chdir(tmp_path)
    overrides = [w.replace("<run>/model", str(tiny_bert)) for w in shlex.split(command)[2:]]
    for file in re.findall(r"=([\w-]+\.(?:csv|tsv|txt|jsonl|bar))", command):
        Path(file).write_text("text\n")
    for folder in re.findall(r"data\.(?:train|test)=([\w-]+/[\w-]+)(?= |$)", command):
        Path(folder).mkdir(parents=True)
    for module in re.findall(r"data\.reader=(\w+)\.", command):
        Path(f"{module}.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
    if any(w.startswith("resume=") for w in overrides):  # stands for the sweep's own overrides
        overrides += ["hparams_search=optuna"] if "hydra.sweeper." in command else []
    typed = list(first_values([w for w in overrides if w != "-m" and not w.startswith("resume=")]))
    verify(compose([*typed, "run_dir=."]), [w for w in typed if not w.startswith("hydra")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_named_files_exist(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text)
    named = re.findall(r"`((?:tests|benchmarks|src|conf|docs)/[\w./-]+)`", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [name for name in named if not (REPOSITORY / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_a_page_begins_with_a_sentence_and_not_with_a_heading_or_a_table(page):
    assert re.match(r"# .+\n\n[A-Za-z][^|#]+\.\s", page.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sequence", "ner", "mlm", "setfit"])
def test_a_quick_look_at_each_task_runs_on_real_weights_and_data(task, tmp_path):
    overrides = [f"task={task}", "debug=fast", f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "train.py", *overrides], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"run directory: {tmp_path}" in done.stdout
    assert (tmp_path / "model" / "model.safetensors").exists()
