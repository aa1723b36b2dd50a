"""A run that was stopped goes on and ends as one that was not, to the bit."""

import csv
import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

import thaw.stop
from thaw.checkpoint import Checkpoint
from thaw.stop import Stop

TIMES = ("seconds", "samples_per_second", "peak_memory_mib", "_mib")
ACCUMULATED = ["trainer.accumulate_grad_batches=2", "callbacks.early_stopping=null"]


def result(directory):
    """All that a run gives, times and memory apart: metrics, weights, predictions, curve."""
    metrics = json.loads((directory / "metrics.json").read_text())
    kept = {k: v for k, v in metrics.items() if not k.endswith(TIMES)}
    weights = load_file(directory / "model" / "model.safetensors")
    files = [directory / n for n in ("predictions.parquet", "predictions.jsonl", "probes.json")]
    head = directory / "model" / "head.safetensors"
    return (
        kept,
        {name: tensor.numpy().tobytes() for name, tensor in weights.items()},
        [path.read_bytes() for path in [*files, head] if path.exists()],
    )


def curve(directory):
    """metrics.csv without what depends on the clock."""
    with open(directory / "metrics.csv", newline="") as file:
        return sorted(tuple(sorted(row.items())) for row in csv.DictReader(file))


@pytest.fixture
def stop_at(monkeypatch):
    """Has a signal come at a batch of training (counted over epochs), or of validation."""

    def at(number, hook="on_train_batch_end", kind=signal.SIGINT):
        count = iter(range(10**6))

        def come(self, *args):
            if args[0].state.fn == "fit" and next(count) == number:
                os.kill(os.getpid(), kind)

        monkeypatch.setattr(Checkpoint, hook, come, raising=False)

    yield at
    monkeypatch.undo()


def stopped(run, stop_at, *words, **where):
    """A run stopped there and gone on with: its directory."""
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch=patch, **where)
    return run(*words)


@pytest.mark.parametrize("batch", [1, 2, 4, 7, 8, 11])
def test_a_run_that_goes_on_ends_as_one_that_did_not_stop(run, stop_at, batch):
    whole = run(*ACCUMULATED, name="whole")
    stop_at(batch)
    with pytest.raises(SystemExit) as end:
        run(*ACCUMULATED, name="on")
    assert end.value.code == 130
    directory = run.directory("on")
    assert not (directory / "metrics.json").exists()
    stop_at(-1)
    run(*ACCUMULATED, f"resume={directory}", name="on")
    assert result(directory) == result(whole)
    assert curve(directory) == curve(whole)
