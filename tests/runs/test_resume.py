"""A run that was stopped goes on and ends as one that was not, to the bit."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from helpers.runs import curve, loaded_after, result, start
from helpers.shared import copy_of
from helpers.tiny import REPOSITORY
from thaw.cli.resume import command_to_resume
from thaw.errors import ThawError
from thaw.training.callbacks.resumable_checkpoint import Checkpoint

pytestmark = pytest.mark.no_figures

WITHIN = "trainer.val_check_interval=0.25"  # validations within an epoch, however short it is
ACCUMULATED = ["trainer.accumulate_grad_batches=2", "callbacks.early_stopping=null", WITHIN]
PROBES = "task.probes=['a [MASK] film','the story is [MASK]']"


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

    def go(
        run: Any, overrides: list[str], *, code: int = 130, again: tuple = (), **where: Any
    ) -> Path:
        signal_at(**where)
        with pytest.raises(SystemExit) as end:
            run(*overrides, name="on")
        assert end.value.code == code
        directory: Path = run.directory("on")
        assert not (directory / "metrics.json").exists()
        return run(*overrides, *again, f"resume={directory}", name="on")

    return go


STOPPED: dict[tuple[str, ...], Path] = {}


@pytest.fixture
def stopped(
    run: Any, signal_at: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Gives the directory of a run that was stopped at its tenth batch, which a test may change;
    one training serves all tests with its overrides."""

    def go(overrides: list[str], name: str = "on") -> Path:
        if (key := tuple(overrides)) not in STOPPED:
            signal_at(9)
            with pytest.raises(SystemExit):
                run(*overrides, name="stopped")
            kept = tmp_path_factory.mktemp("stopped")
            STOPPED[key] = copy_of(run.directory("stopped"), kept / "run")
        return copy_of(STOPPED[key], run.directory(name))

    return go


WHOLE: dict[tuple[str, ...], tuple[Any, Any]] = {}


def of_uninterrupted(run: Any, overrides: list[str]) -> tuple[Any, Any]:
    """Result and curve of a run that is not stopped; one run serves all tests with its
    overrides."""
    if (key := tuple(overrides)) not in WHOLE:
        directory = run(*overrides, name="whole")
        WHOLE[key] = result(directory), curve(directory)
    return WHOLE[key]


@pytest.mark.parametrize(
    ("number", "hook", "step"),
    [
        (2, "on_train_batch_end", 2),  # in the middle of a step
        (7, "on_train_batch_end", 4),  # before the last validation of an epoch
        (3, "on_validation_batch_start", 4),  # of the end of an epoch
        (15, "on_train_batch_end", 8),  # the last
    ],
)
def test_a_run_resumed_at_any_step_equals_an_uninterrupted_one(
    run, interrupted, caplog, number, hook, step
):
    caplog.set_level("INFO")
    directory = interrupted(run, ACCUMULATED, number=number, hook=hook)
    assert f"going on after step {step}, from last.ckpt" in caplog.text
    assert (result(directory), curve(directory)) == of_uninterrupted(run, ACCUMULATED)


TASKS = {
    "mlm": ["task=mlm", PROBES, "data.num_workers=1", WITHIN],
    "stream": [
        "task=mlm",
        "task.probes=[]",
        "data.streaming=true",
        "trainer.max_steps=16",
        "trainer.val_check_interval=3",
        "trainer.check_val_every_n_epoch=null",
    ],
    "joint": [
        "task=setfit",
        "task.shots=8",
        "task.steps=8",
        "task.head=differentiable",
        "task.joint_ratio=0.5",
    ],
    "pairs": ["task=setfit", "task.shots=4", "task.pairs=sampled", "task.num_iterations=4"],
    "gradual": ["freeze=gradual", "freeze.every=2", "task.layer_decay=0.9", WITHIN],
    "frozen": [
        "freeze=last",
        "trainer.val_check_interval=3",
        "trainer.check_val_every_n_epoch=null",
    ],
}


@pytest.mark.parametrize("name", [*TASKS, "ner"])
def test_every_task_resumes(run, run_ner, interrupted, name):
    run = run_ner if name == "ner" else run
    overrides = [*TASKS.get(name, []), "callbacks.early_stopping=null"]
    directory = interrupted(run, overrides, number=3 if name == "joint" else 9)
    assert (result(directory), curve(directory)) == of_uninterrupted(run, overrides)


SCHEDULE_FREE = ["optimizer=own", "optimizer._target_=schedulefree.AdamWScheduleFree"]


@pytest.mark.parametrize(
    "options",
    [
        ["schedule=cosine"],
        ["schedule=cosine_with_restarts", "task.warmup_steps=2"],
        ["schedule=polynomial"],
        ["schedule=inverse_sqrt"],
        ["optimizer=adafactor", "schedule=constant"],
        [*SCHEDULE_FREE, "schedule=constant"],
        [
            *("optimizer=own", "optimizer._target_=torch.optim.NAdam", "task.warmup_ratio=0"),
            *("schedule=own", "schedule._target_=torch.optim.lr_scheduler.CosineAnnealingLR"),
        ],
    ],
    ids=lambda options: options[0] if len(options) < 3 else options[1].rpartition(".")[2],
)
def test_every_optimizer_and_schedule_resumes(run, interrupted, options):
    overrides = [*options, "callbacks.early_stopping=null"]
    directory = interrupted(run, overrides, number=9)
    assert (result(directory), curve(directory)) == of_uninterrupted(run, overrides)


EMA = ["callbacks=ema", "callbacks.ema.decay=0.5"]


def test_a_run_with_averaged_weights_resumes(run, interrupted):
    overrides = [*EMA, "callbacks.early_stopping=null"]
    directory = interrupted(run, overrides, number=9)
    assert (result(directory), curve(directory)) == of_uninterrupted(run, overrides)


@pytest.mark.parametrize("options", [[*SCHEDULE_FREE, "schedule=constant"], EMA])
def test_weights_put_in_place_for_a_validation_are_told_from_others(run, interrupted, options):
    overrides = [*options, "callbacks.early_stopping=null", WITHIN]
    directory = interrupted(run, overrides, number=2, hook="on_validation_batch_start")
    assert (result(directory), curve(directory)) == of_uninterrupted(run, overrides)


def test_a_resumed_run_keeps_the_decision_of_early_stopping(run, interrupted):
    overrides = [
        "task.learning_rate=0",
        "trainer.max_epochs=20",
        "callbacks.early_stopping.patience=2",
    ]
    directory = interrupted(run, overrides, number=2)
    assert (result(directory), curve(directory)) == of_uninterrupted(run, overrides)
    (directory / "metrics.json").unlink()  # as if killed while it wrote its results
    run(*overrides, f"resume={directory}", name="on")
    assert result(directory) == of_uninterrupted(run, overrides)[0]


def test_a_second_ctrl_c_ends_at_once_and_loses_the_steps_since_the_last_checkpoint(
    run, monkeypatch, caplog
):
    def twice(callback, trainer, *args):
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    caplog.set_level("INFO")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_batch_end", twice, raising=False)
        with pytest.raises(SystemExit) as end:
            run(*ACCUMULATED, name="on")
    assert end.value.code == 130
    run(*ACCUMULATED, f"resume={run.directory('on')}", name="on")
    assert "going on after step 3, from last.ckpt" in caplog.text
    assert result(run.directory("on")) == of_uninterrupted(run, ACCUMULATED)[0]


def test_sigterm_saves_and_ends_with_its_own_code(run, interrupted):
    directory = interrupted(run, ACCUMULATED, number=5, kind=signal.SIGTERM, code=143)
    assert result(directory) == of_uninterrupted(run, ACCUMULATED)[0]


def damage(path: Path) -> None:
    """Changes a byte in the middle of a file, as a bad disk does."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("damaged", "how", "said"),
    [
        (["last.ckpt"], damage, "going on after step 4, from previous.ckpt"),
        (
            ["last.ckpt", "previous.ckpt"],
            cut_off,
            "no checkpoint: the run starts from the beginning",
        ),
        (["best.ckpt"], damage, "without best.ckpt the run starts from the beginning"),
        (
            ["best.ckpt", "last.ckpt", "previous.ckpt"],
            Path.unlink,
            "the run starts from the beginning",
        ),
    ],
)
def test_damaged_checkpoints_are_skipped(run, stopped, caplog, damaged, how, said):
    directory = stopped(ACCUMULATED)
    caplog.set_level("INFO")
    for name in damaged:
        how(directory / "checkpoints" / name)
    run(*ACCUMULATED, f"resume={directory}", name="on")
    assert said in caplog.text
    for name in damaged:
        assert how is Path.unlink or f"{name} is damaged and passed over" in caplog.text
    assert (result(directory), curve(directory)) == of_uninterrupted(run, ACCUMULATED)


def test_a_run_directory_may_be_moved(run, stopped):
    shutil.copytree(stopped(ACCUMULATED, name="before"), run.directory("moved"))
    shutil.rmtree(run.directory("before"))
    directory = run(*ACCUMULATED, f"resume={run.directory('moved')}", name="moved")
    assert result(directory) == of_uninterrupted(run, ACCUMULATED)[0]


def test_a_running_run_cannot_be_resumed(run, finished_copy, monkeypatch):
    directory = finished_copy("trainer.max_epochs=1")
    acquire = FileLock.acquire
    monkeypatch.setattr(FileLock, "acquire", lambda lock, timeout=0: acquire(lock, timeout=0))
    with FileLock(directory / ".lock", is_singleton=False) as lock:
        assert lock.is_locked
        with pytest.raises(ThawError, match="another process is writing to this run directory"):
            run("trainer.max_epochs=1", f"resume={directory}")


def test_checkpoints_are_written_every_so_many_steps_and_after_validations(run, monkeypatch):
    steps = []
    save = Checkpoint.save

    def count(callback, trainer, moment):
        steps.append((trainer.global_step, moment))
        save(callback, trainer, moment)

    monkeypatch.setattr(Checkpoint, "save", count)
    run(
        "trainer.max_epochs=2",
        "trainer.val_check_interval=1.0",
        "callbacks.checkpoint.every_n_train_steps=3",
    )
    assert steps == [(n, "batch") for n in (3, 6, 8, 9, 12, 15)] + [(16, "end")]


def test_seconds_and_samples_are_those_of_the_whole_run(run, stopped):
    directory = run(*ACCUMULATED, f"resume={stopped(ACCUMULATED)}", name="on")
    state = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["callbacks"]["Clock"]["samples"] == 2 * 64
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["samples_per_second"] * metrics["train_seconds"] == pytest.approx(128, rel=0.05)


def test_the_wandb_run_is_resumed(run, interrupted, overrides):
    overrides.remove("logger=csv")
    directory = interrupted(run, ["logger=wandb"], number=9)
    runs = [p.name for p in (directory / "wandb").glob("offline-run-*")]
    assert {name.rsplit("-", 1)[1] for name in runs} == {(directory / "wandb_id.txt").read_text()}


@pytest.mark.parametrize("lost", [["last.ckpt"], ["last.ckpt", "previous.ckpt", "best.ckpt"]])
def test_tensorboard_shows_each_step_once(run, stopped, lost):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    overrides = [*ACCUMULATED, "logger=tensorboard", "trainer.log_every_n_steps=1"]
    directory = stopped(overrides)
    for name in lost:
        (directory / "checkpoints" / name).unlink()
    run(*overrides, f"resume={directory}", name="on")
    events = EventAccumulator(str(directory / "tensorboard")).Reload()
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == [*range(max(steps) + 1)]


def test_a_run_and_what_it_may_not_change_are_known_without_torch(finished_copy):
    directory = finished_copy("trainer.max_epochs=1")
    before = (directory / "metrics.json").stat().st_mtime_ns
    assert loaded_after(f"resume={directory}", "logger=none") == (0, [], "")
    assert (directory / "metrics.json").stat().st_mtime_ns == before
    code, heavy, stderr = loaded_after(f"resume={directory}", "data.batch_size=9")
    assert (code, heavy) == (2, [])
    assert f"data.batch_size is 8 in {directory}, not 9" in stderr
    with pytest.raises(ThawError, match="a run goes on in its own directory"):
        command_to_resume([f"resume={directory}", "hydra.run.dir=elsewhere"])


def test_a_run_goes_on_with_the_defaults_it_began_with(finished_copy):
    directory = finished_copy("trainer.max_epochs=1")
    (directory / "metrics.json").unlink()
    assert not [w for w in command_to_resume([f"resume={directory}"]) if "val_check" in w]
    config = directory / ".hydra" / "config.yaml"
    began = config.read_text().replace("val_check_interval: auto", "val_check_interval: 0.25")
    config.write_text(began)
    assert "trainer.val_check_interval=0.25" in command_to_resume([f"resume={directory}"])


def test_ckpt_path_is_answered_with_resume(tmp_path):
    (tmp_path / ".hydra").mkdir()
    path = tmp_path / "checkpoints" / "last.ckpt"
    with pytest.raises(ThawError, match=rf"python train\.py resume={tmp_path}$"):
        command_to_resume([f"ckpt_path={path}"])
    for typed in ("+ckpt_path=best.ckpt", "trainer.ckpt_path=best.ckpt"):
        with pytest.raises(ThawError, match=r"python train\.py resume=outputs/<date>/<time>$"):
            command_to_resume(["task=ner", typed])


def test_a_resumed_sweep_keeps_its_overrides_unless_others_are_typed(tmp_path):
    hydra = ["hydra/launcher=joblib", "hydra.sweep.dir=there", "hydra.mode=MULTIRUN"]
    notes = {"hydra": {"overrides": {"hydra": hydra, "task": ["data=files", "seed=1,2"]}}}
    (tmp_path / "multirun.yaml").write_text(json.dumps(notes))
    resume = f"resume={tmp_path}"
    goes_on = ["-m", "hydra/launcher=joblib", "data=files", "seed=1,2", f"resume='{tmp_path}'"]
    assert command_to_resume([resume]) == goes_on
    assert command_to_resume(["-m", resume]) == goes_on
    assert command_to_resume(["-m", "data=files", "seed=1,2", resume])[2:] == goes_on[2:]
    more = command_to_resume(["--multirun", resume, "seed=1,2,3", "logger=none"])
    assert more == ["--multirun", *goes_on[1:3], "seed=1,2,3", "logger=none", goes_on[-1]]
    for word in (
        *("task._target_=a.b", "hydra.launcher.setup=[ls]", "++hydra.launcher.setup=[ls]"),
        *("hydra.sweeper.storage=redis://1.2", "hydra.launcher.nodes=9"),
        *("hydra.sweeper.custom_search_space=a.b", "hydra.sweeper.params={program: 'choice(a.b)'}"),
    ):
        hydra[:] = [word]
        (tmp_path / "multirun.yaml").write_text(json.dumps(notes))
        with pytest.raises(
            ThawError, match=rf"names code to run: type .*{re.escape(word[:12])}.* again"
        ):
            command_to_resume([resume])
        assert word in command_to_resume([resume, word])
    for word in (
        "hydra.sweeper.n_trials=5",
        "hydra.sweeper.sampler.seed=null",
        "hydra.sweeper.params={task.learning_rate: 'tag(log, interval(1e-4, 1e-2))'}",
    ):
        hydra[:] = [word]
        (tmp_path / "multirun.yaml").write_text(json.dumps(notes))
        assert word in command_to_resume([resume])
    (tmp_path / "multirun.yaml").write_text("")
    with pytest.raises(ThawError, match="type the sweep's overrides again"):
        command_to_resume([resume])
    assert command_to_resume(["-m", "seed=1", resume]) == ["-m", "seed=1", f"resume='{tmp_path}'"]


def test_what_a_run_took_from_elsewhere_is_shown_as_a_value(run, overrides):
    overrides.remove("task.learning_rate=3e-3")
    directory = run("trainer.max_epochs=1")
    with pytest.raises(ThawError, match=f"learning_rate is 0.0002 in {directory}, not 1"):
        command_to_resume([f"resume={directory}", "task.learning_rate=1"])
    with pytest.raises(ThawError, match=r"is '\$\{run_dir\}' in"):  # which Hydra makes
        command_to_resume([f"resume={directory}", "trainer.default_root_dir=elsewhere"])


def test_typed_overrides_replace_those_of_the_resumed_run(finished):
    directory = finished("trainer.max_epochs=1")
    overrides = command_to_resume([f"resume={directory}", "logger=none", "--cfg", "job"])
    assert overrides[:2] == ["--cfg", "job"]
    assert "logger=none" in overrides
    assert "logger=csv" not in overrides
    assert f"hydra.run.dir='{directory}'" in overrides
    assert {*command_to_resume(overrides)} == {
        *overrides
    }  # Lightning starts other processes with these
    assert command_to_resume(["-m", f"resume={directory}"]) == ["-m", f"resume={directory}"]


@pytest.mark.slow
def test_two_processes_resume_too(overrides, tmp_path):
    options = [
        *overrides,
        "trainer.devices=2",
        "trainer.max_epochs=8",
        "data.batch_size=4",
        "callbacks.early_stopping=null",
        "callbacks.checkpoint.every_n_train_steps=1",
        f"freeze.cache.path={tmp_path / 'prefix'}",
    ]
    whole, directory = tmp_path / "whole", tmp_path / "on"
    process = start([*options, "logger=none"], whole)
    process.communicate(timeout=300)
    process = start([*options, "logger=none"], directory)
    wait_for(directory / "checkpoints" / "last.ckpt")
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 143, output
    assert f"python train.py resume={directory}" in output
    done = subprocess.run(
        [sys.executable, "train.py", f"resume={directory}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on after step" in done.stdout
    assert result(directory) == result(whole)


def wait_for(path: Path) -> None:
    """Until a file is there."""
    deadline = time.monotonic() + 300
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_result():
    done = subprocess.run(
        [sys.executable, "tests/long/chaos.py", "--kills", "4", "--tasks", "sequence"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the same result") > 0
