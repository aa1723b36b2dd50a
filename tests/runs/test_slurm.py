"""SIGUSR1 in a job of SLURM saves the run and requeues the job, which goes on with it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.runs import curve, free_port, result
from helpers.tiny import REPOSITORY
from thaw.cli.processes import slurm_job

pytestmark = pytest.mark.no_figures

OPTIONS = ["callbacks.early_stopping=null"]
SIGNAL = ["+callbacks.signal._target_=helpers.watch.Signal"]
SIGNAL += [f"+callbacks.signal.number={int(signal.SIGUSR1)}", "+callbacks.signal.step=5"]
SRUN = """#!/bin/bash
# Starts the tasks of a step on this machine, and ends with the largest of their exit codes.
pids=() code=0
for ((rank = 0; rank < SLURM_NTASKS; rank++)); do
  SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NODEID=0 SLURM_STEP_ID=0 "$@" & pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || { one=$?; code=$((one > code ? one : code)); }; done
exit $code
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stands in for SLURM on this machine: its commands, and a job of one task.

    Returns:
        A file that gets what `scontrol` was called with, a line a call.
    """
    calls, commands = tmp_path / "scontrol-calls", tmp_path / "bin"
    commands.mkdir()
    for name, script in {"srun": SRUN, "scontrol": f'#!/bin/sh\necho "$@" >> {calls}\n'}.items():
        (commands / name).write_text(script)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    of_job = {"JOB_ID": "417", "JOB_NAME": "thaw", "NTASKS": "1", "NTASKS_PER_NODE": "1"}
    for name, value in {**of_job, "NNODES": "1", "NODELIST": "127.0.0.1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    calls.touch()
    return calls


def stopped(run, *options):
    """Trains until the job's time is nearly over, and returns the run directory."""
    with pytest.raises(SystemExit) as end:
        run(*OPTIONS, *SIGNAL, *options, name="on")
    assert end.value.code == 128 + signal.SIGUSR1
    return run.directory("on")


def test_a_job_whose_time_is_over_is_saved_and_requeued_once(run, slurm, caplog):
    directory = stopped(run)
    assert slurm.read_text() == "requeue 417\n"
    assert f"requeueing job 417; its command goes on with {directory}" in caplog.text
    assert (directory / "checkpoints" / "last.ckpt").exists()


def test_a_task_of_an_array_is_requeued_under_its_own_number(run, slurm, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "410")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    stopped(run)
    assert slurm.read_text() == "requeue 410_7\n"


def test_an_interactive_job_is_not_requeued():
    of_job = {"SLURM_JOB_ID": "417", "SLURM_JOB_NAME": "thaw"}
    assert slurm_job(of_job) == "417"
    assert slurm_job(of_job | {"SLURM_JOB_NAME": "interactive"}) is None
    assert slurm_job({}) is None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (None, "scontrol cannot be run: No such file or directory"),
        ("echo 'Requested operation is presently disabled' >&2; exit 1", "presently disabled"),
    ],
    ids=["missing", "failing"],
)
def test_a_job_that_cannot_be_requeued_says_what_to_type(
    run, slurm, caplog, monkeypatch, script, why
):
    if script is None:
        monkeypatch.setenv("PATH", str(slurm.parent))
    else:
        (slurm.parent / "bin" / "scontrol").write_text(f"#!/bin/sh\n{script}\n")
    directory = stopped(run)
    [error] = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert re.search(rf"job 417 is not requeued: .*{why}", error)
    assert f"To go on:\n  python train.py resume={directory}" in error
    assert (directory / "checkpoints" / "last.ckpt").exists()


def test_a_job_that_would_train_the_same_again_is_not_requeued(run, slurm, caplog, monkeypatch):
    stopped(run, "callbacks.checkpoint=null", "callbacks.best=null")
    assert "job 417 is not requeued: it saved no checkpoint" in caplog.text
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(SystemExit):
        run(*OPTIONS, *SIGNAL, name="new")
    assert "job 417 is not requeued: it was before, and then began a new run" in caplog.text
    assert slurm.read_text() == ""


def batch_script(clone, *options, **env):
    """Runs docs/slurm.sh as SLURM does on the first machine of a job, submitted in `clone`."""
    activate = clone / ".venv" / "bin" / "activate"
    if not activate.exists():
        activate.parent.mkdir(parents=True)
        activate.write_text(f"PATH={Path(sys.executable).parent}:$PATH\n")
        (clone / "train.py").symlink_to(REPOSITORY / "train.py")
    env |= {
        "SLURM_SUBMIT_DIR": str(clone),
        "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY / 'tests'}",
    }
    return subprocess.run(
        ["bash", REPOSITORY / "docs" / "slurm.sh", *options],
        env=os.environ | env,
        cwd=clone.parent,
        capture_output=True,
        text=True,
    )


def is_requeued_and_goes_on(slurm, options, tmp_path, **env):
    """Runs the batch script until it is requeued, and again, and compares with an unbroken run."""
    (clone := tmp_path / "clone").mkdir()
    first = batch_script(clone, *options, **env)
    assert first.returncode == 128 + signal.SIGUSR1, first.stdout + first.stderr
    assert slurm.read_text() == "requeue 417\n"
    assert "stopped after step 5" in first.stdout
    again = batch_script(clone, *options, SLURM_RESTART_COUNT="1", **env)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "going on after step 5, from last.ckpt" in again.stdout
    assert slurm.read_text() == "requeue 417\n"
    unbroken = [word for word in options if "callbacks.signal" not in word]
    whole = batch_script(clone, *unbroken, "hydra.run.dir=whole", **env)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    on = clone / "outputs" / "slurm-417"
    assert (result(on), curve(on)) == (result(clone / "whole"), curve(clone / "whole"))


def test_the_batch_script_trains_in_a_directory_of_its_job_until_that_holds_a_run(slurm, tmp_path):
    (slurm.parent / "bin" / "srun").write_text('#!/bin/sh\necho "$@"\n')
    started = (
        "python train.py trainer=ddp hydra.run.dir={} trainer.devices=1 trainer.num_nodes=1 {}"
    )
    (clone := tmp_path / "clone").mkdir()

    def words(*typed, **env):
        done = batch_script(clone, *typed, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert words("seed=1") == started.format("outputs/slurm-417", "seed=1")
    array = {"SLURM_ARRAY_JOB_ID": "410", "SLURM_ARRAY_TASK_ID": "7"}
    assert words("seed=1", **array) == started.format("outputs/slurm-410_7", "seed=1")
    for own in ("outputs/slurm-417", "runs/a"):
        (clone / own).mkdir(parents=True)
        (clone / own / "versions.json").touch()
    again = started.format("outputs/slurm-417", "seed=1 resume=outputs/slurm-417")
    assert words("seed=1") == again
    own = "hydra.run.dir=runs/a"
    assert words(own) == started.format("runs/a", f"{own} resume=runs/a")
    assert words("resume=runs/a") == started.format("runs/a", "resume=runs/a resume=runs/a")


@pytest.mark.slow
def test_the_batch_script_goes_on_with_its_run_when_it_is_requeued(overrides, slurm, tmp_path):
    is_requeued_and_goes_on(slurm, [*overrides, *OPTIONS, *SIGNAL], tmp_path)


@pytest.mark.slow
def test_the_first_of_several_processes_requeues_when_another_is_signalled(
    overrides, slurm, tmp_path
):
    options = [*overrides, *OPTIONS, "+callbacks.signal.rank=1", *SIGNAL]
    tasks = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "MASTER_PORT": str(free_port())}
    is_requeued_and_goes_on(slurm, options, tmp_path, **tasks)
