"""A loss or gradient that is not finite: its step is left out, and the run says so."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.runs import metrics_of
from helpers.tiny import REPOSITORY
from thaw.errors import ThawError
from thaw.tasks.sequence import SequenceClassification
from thaw.training.callbacks.nonfinite_guard import NonFiniteGuard
from thaw.training.optim import build_optimizer, clip_in_step, gradient_norm

pytestmark = pytest.mark.no_figures

QUICK = ("trainer.max_epochs=1", "trainer.val_check_interval=1.0")


@pytest.fixture
def poison(monkeypatch):
    """Makes the loss of some batches NaN; gives the rows of each batch as they come."""
    step = SequenceClassification.training_step
    rows = []

    def of(*batches, factor=math.nan):
        def training_step(self, batch, batch_idx):
            rows.append(batch["row"].tolist())
            loss = step(self, batch, batch_idx)
            return loss * factor if not batches or batch_idx in batches else loss

        monkeypatch.setattr(SequenceClassification, "training_step", training_step)
        return rows

    return of


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_run_stops_with_step_rows_and_what_to_lower(run, poison, factor):
    rows = poison(3, factor=factor)
    with pytest.raises(ThawError) as caught:
        run(*QUICK, "trainer.gradient_clip_val=null")
    said = str(caught.value)
    assert len(rows) == 4
    assert "step 4: loss or gradient is not finite" in said
    assert f"rows {', '.join(map(str, sorted(rows[3])))} of train" in said
    for hint in (
        "task.learning_rate (now 0.003)",
        "trainer.gradient_clip_val=1.0",
        "trainer.on_nonfinite=skip",
    ):
        assert hint in said
    assert "trainer.precision" not in said  # it is 32-true


def test_checkpoints_before_a_bad_step_are_kept(run, poison):
    step = poison(6)
    with pytest.raises(ThawError, match="step 7"):
        run("trainer.max_epochs=1", "trainer.val_check_interval=2")
    assert len(step) == 7
    state = torch.load(run.directory("run") / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 6
    assert all(t.isfinite().all() for t in state["state_dict"].values() if t.is_floating_point())


@pytest.mark.parametrize("clip", ["1.0", "null"])
def test_bad_steps_can_be_skipped_and_are_counted(run, poison, clip, caplog):
    poison(1, 4)
    directory = run(*QUICK, "trainer.on_nonfinite=skip", f"trainer.gradient_clip_val={clip}")
    metrics = metrics_of(directory)
    assert (metrics["nonfinite_steps"], metrics["steps"]) == (2, 8)
    assert all(math.isfinite(v) for v in metrics.values())
    weights = load_file(directory / "model" / "model.safetensors")
    assert all(w.isfinite().all() for w in weights.values() if w.is_floating_point())
    assert "step 2: loss or gradient is not finite" in caplog.text


def test_without_bad_steps_the_count_is_0(run):
    assert metrics_of(run(*QUICK, "trainer.on_nonfinite=skip"))["nonfinite_steps"] == 0


def test_one_bad_batch_skips_the_whole_accumulated_step(run, poison):
    poison(1)
    directory = run(*QUICK, "trainer.on_nonfinite=skip", "trainer.accumulate_grad_batches=4")
    assert metrics_of(directory)["nonfinite_steps"] == 1
    assert metrics_of(directory)["steps"] == 2


def test_a_run_of_bad_steps_alone_fails(run, poison):
    poison()
    with pytest.raises(ThawError, match="all 8 steps had a loss or gradient that is not finite"):
        run(*QUICK, "trainer.on_nonfinite=skip")
    assert not (run.directory("run") / "metrics.json").exists()


def test_a_learning_rate_that_is_too_high_stops_the_run(run):
    with pytest.raises(ThawError, match=r"not finite.*a lower task.learning_rate \(now 1e\+30\)"):
        run(*QUICK, "task.learning_rate=1e30", "task.warmup_ratio=0")


def test_an_unknown_action_is_refused(run):
    with pytest.raises(ThawError, match=r"trainer\.on_nonfinite='maybe' does not fit"):
        run("trainer.on_nonfinite=maybe")


@pytest.mark.parametrize("clip", [True, False])
def test_the_fused_step_skips_itself_and_keeps_weights_and_moments(clip):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    guard, optimizer = NonFiniteGuard(), build_optimizer(model, 1e-2, 0.1)
    kept = []
    for number, factor in enumerate([1.0, math.nan, math.inf, 1.0], start=1):
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().sum() * factor
        guard.on_before_backward(None, None, loss)
        loss.backward()
        norm = clip_in_step(optimizer, 1.0) if clip else gradient_norm(optimizer)
        guard.judge(number, optimizer, norm)
        optimizer.step()
        state = optimizer.state[model.weight]
        kept.append([t.clone() for t in (model.weight, state["exp_avg"], state["step"])])
    for old, new in ((0, 1), (0, 2)):
        assert all(torch.equal(a, b) for a, b in zip(kept[old], kept[new], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(kept[2], kept[3], strict=True))
    assert [flag.item() for _, flag in guard.judged] == [0, 1, 1, 0]


def test_a_step_that_is_not_fused_is_left_out_too():
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    guard, optimizer = NonFiniteGuard(), build_optimizer(model, 1e-2, 0.1, made=torch.optim.NAdam)
    for number, factor in enumerate([1.0, math.nan, 1.0], start=1):
        before = model.weight.detach().clone()
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().sum() * factor
        guard.on_before_backward(None, None, loss)
        loss.backward()
        guard.judge(number, optimizer, gradient_norm(optimizer))
        optimizer.step()
        assert torch.equal(before, model.weight) == math.isnan(factor)
    assert optimizer.state[model.weight]["step"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(("action", "code"), [("stop", 2), ("skip", 0)])
def test_two_processes_skip_the_same_steps(overrides, tmp_path, action, code):
    done = subprocess.run(
        [
            sys.executable,
            "train.py",
            *overrides,
            *QUICK,
            "program=helpers.poisoned.train",
            "trainer.devices=2",
            "data.batch_size=4",
            f"trainer.on_nonfinite={action}",
            f"hydra.run.dir={tmp_path / 'run'}",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **os.environ,
            "POISON": "2,5",
            "PYTHONPATH": f"{Path(__file__).parents[1]}:{os.environ.get('PYTHONPATH', '')}",
        },
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if action == "stop":
        assert "thaw: step 3: loss or gradient is not finite in a batch of rows" in done.stderr
    else:
        assert metrics_of(tmp_path / "run")["nonfinite_steps"] == 2
