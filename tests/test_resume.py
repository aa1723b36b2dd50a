"""A run that was stopped goes on and ends as one that was not, to the bit."""

import csv
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from thaw.checkpoint import Checkpoint

TIMES = ("seconds", "samples_per_second", "_mib")
ACCUMULATED = ["trainer.accumulate_grad_batches=2", "callbacks.early_stopping=null"]
PROBES = "task.probes=['a [MASK] film','the story is [MASK]']"


def result(directory: Path) -> tuple[Any, ...]:
    """All that a run gives, times and memory apart: metrics, weights, predictions, probes."""
    metrics = json.loads((directory / "metrics.json").read_text())
    weights = load_file(directory / "model" / "model.safetensors")
    names = ("predictions.parquet", "predictions.jsonl", "probes.json", "model/head.safetensors")
    return (
        {k: v for k, v in metrics.items() if not k.endswith(TIMES)},
        {name: tensor.numpy().tobytes() for name, tensor in weights.items()},
        [(directory / n).read_bytes() for n in names if (directory / n).exists()],
    )


def curve(directory: Path) -> list[Any]:
    """The rows of metrics.csv, in an order that does not depend on that of its columns."""
    with open(directory / "metrics.csv", newline="") as file:
        return [sorted(row.items()) for row in csv.DictReader(file)]


@pytest.fixture
def signal_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has a signal come at a call of a hook in training, once."""

    def at(number: int, hook: str = "on_train_batch_end", kind: int = signal.SIGINT) -> None:
        calls = iter(range(10**6))

        def come(callback: Checkpoint, trainer: Any, *args: Any) -> None:
            if trainer.state.fn == "fit" and next(calls) == number:
                os.kill(os.getpid(), kind)

        monkeypatch.setattr(Checkpoint, hook, come, raising=False)

    return at


@pytest.fixture
def interrupted(signal_at: Callable[..., None]) -> Callable[..., Path]:
    """Runs until a signal comes, then with `resume=`: the run's directory."""

    def go(run: Any, words: list[str], *, code: int = 130, again: tuple = (), **where: Any) -> Path:
        signal_at(**where)
        with pytest.raises(SystemExit) as end:
            run(*words, name="on")
        assert end.value.code == code
        directory: Path = run.directory("on")
        assert not (directory / "metrics.json").exists()
        return run(*words, *again, f"resume={directory}", name="on")

    return go


WHOLE: dict[tuple[str, ...], tuple[Any, Any]] = {}


def of_uninterrupted(run: Any, words: list[str]) -> tuple[Any, Any]:
    """Result and curve of a run that is not stopped; one run serves all tests with its words."""
    if (key := tuple(words)) not in WHOLE:
        directory = run(*words, name="whole")
        WHOLE[key] = result(directory), curve(directory)
    return WHOLE[key]


@pytest.mark.parametrize(
    ("number", "hook", "step"),
    [
        (2, "on_train_batch_end", 2),  # in the middle of a step
        (5, "on_train_batch_end", 3),
        (7, "on_train_batch_end", 4),  # before the last validation of an epoch
        (1, "on_validation_batch_start", 2),
        (3, "on_validation_batch_start", 4),  # of the end of an epoch
        (15, "on_train_batch_end", 8),  # the last
    ],
)
def test_a_run_goes_on_at_any_step_and_ends_as_one_that_was_not_stopped(
    run, interrupted, caplog, number, hook, step
):
    caplog.set_level("INFO")
    directory = interrupted(run, ACCUMULATED, number=number, hook=hook)
    assert f"going on after step {step}, from last.ckpt" in caplog.text
    assert (result(directory), curve(directory)) == of_uninterrupted(run, ACCUMULATED)


TASKS = {
    "mlm": ["task=mlm", PROBES, "data.num_workers=1"],
    "stream": ["task=mlm", "task.probes=[]", "data.streaming=true", "trainer.max_steps=16",
               "trainer.val_check_interval=3", "trainer.check_val_every_n_epoch=null"],
    "setfit": ["task=setfit", "task.shots=8", "task.steps=8"],
    "joint": ["task=setfit", "task.shots=8", "task.steps=8", "task.head=differentiable",
              "task.joint_ratio=0.5"],
    "pairs": ["task=setfit", "task.shots=4", "task.pairs=sampled", "task.num_iterations=4"],
    "gradual": ["freeze=gradual", "freeze.every=2", "task.layer_decay=0.9"],
    "frozen": ["freeze=last", "trainer.val_check_interval=3",
               "trainer.check_val_every_n_epoch=null"],
}  # fmt: skip


@pytest.mark.parametrize("name", [*TASKS, "ner"])
@pytest.mark.parametrize("number", [3, 9])
def test_every_task_goes_on(run, run_ner, interrupted, name, number):
    run = run_ner if name == "ner" else run
    words = [*TASKS.get(name, []), "callbacks.early_stopping=null"]
    directory = interrupted(run, words, number=number)
    assert (result(directory), curve(directory)) == of_uninterrupted(run, words)
