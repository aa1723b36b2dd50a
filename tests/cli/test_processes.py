"""Processes that torchrun or srun started, on one machine or several, are one run."""

import os
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from helpers.runs import files_of, free_port, metrics_of, overrides_of, typed
from helpers.sweeps import sweep_of
from helpers.tiny import REPOSITORY, save_tiny, tiny_config
from thaw.cli.compose import compose
from thaw.cli.processes import Launch, first_only, launch, require_world, stamp
from thaw.errors import ThawError

SLURM = {
    "SLURM_JOB_ID": "41234",
    "SLURM_STEP_ID": "2",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_NNODES": "2",
    "SLURM_LOCALID": "0",
    "SLURM_NODELIST": "127.0.0.1",
    "SLURM_JOB_NAME": "thaw",
}


def of_slurm(rank):
    return SLURM | {"SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)}


@pytest.fixture(scope="module")
def still_bert(tmp_path_factory):
    """A tiny BERT without dropout: its weights do not depend on who draws random numbers."""
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return save_tiny("BertModel", config, tmp_path_factory.mktemp("models") / "still-bert")


def together(commands, cwd, environs=None):
    """Runs commands side by side, as several machines would."""
    processes = [
        subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for command, environ in zip(commands, environs or [{}] * len(commands), strict=True)
    ]
    said = [process.communicate()[0] for process in processes]
    assert all(p.returncode == 0 for p in processes), "\n".join(said)
    return said


def torchrun(*options):
    return [sys.executable, "-m", "torch.distributed.run", *options, REPOSITORY / "train.py"]


def is_as_of_one_process(overrides, there, tmp_path):
    """Whether there is one run directory, with what a single process leaves."""
    one = typed([*overrides, "data.batch_size=8"], tmp_path / "one")
    assert one.returncode == 0, one.stdout + one.stderr
    (two,) = (path.parent for path in there.rglob("metrics.json"))
    assert list(there.rglob("versions.json")) == [two / "versions.json"]
    assert files_of(two) - {"train.log"} == files_of(tmp_path / "one") - {"train.log"}
    before, after = metrics_of(tmp_path / "one"), metrics_of(two)
    for name in (n for n in before if n.startswith(("test/", "val/", "steps"))):
        assert after[name] == pytest.approx(before[name], abs=1e-4), name
    weights = load_file(two / "model" / "model.safetensors")
    for name, weight in load_file(tmp_path / "one" / "model" / "model.safetensors").items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-3, atol=1e-4)
    return two


@pytest.mark.slow
def test_two_processes_of_torchrun_are_one_run(overrides, still_bert, tmp_path):
    options = overrides_of("sequence", overrides, [], still_bert)
    there = tmp_path / "there"
    there.mkdir()
    (said,) = together(
        [
            [
                *torchrun("--standalone", "--nproc-per-node=2"),
                *options,
                "data.batch_size=4",
                "trainer.devices=2",
            ]
        ],
        there,
    )
    is_as_of_one_process(options, there, tmp_path)
    assert said.count("run directory: ") == 1


@pytest.mark.slow
def test_two_machines_of_torchrun_are_one_run(overrides, still_bert, tmp_path):
    options = overrides_of("sequence", overrides, [], still_bert)
    there = tmp_path / "there"
    there.mkdir()
    at = [
        "--nnodes=2",
        "--nproc-per-node=1",
        "--master-addr=127.0.0.1",
        f"--master-port={free_port()}",
    ]
    own = [*options, "data.batch_size=4", "trainer.num_nodes=2"]
    together([[*torchrun(*at, f"--node-rank={rank}"), *own] for rank in (0, 1)], there)
    is_as_of_one_process(options, there, tmp_path)


@pytest.mark.slow
def test_two_machines_of_slurm_are_one_run(overrides, still_bert, tmp_path):
    options = overrides_of("sequence", overrides, [], still_bert)
    there = tmp_path / "there"
    there.mkdir()
    command = [
        sys.executable,
        REPOSITORY / "train.py",
        *options,
        "data.batch_size=4",
        "trainer.num_nodes=2",
    ]
    port = {"MASTER_PORT": str(free_port())}
    together([command, command], there, [of_slurm(rank) | port for rank in (0, 1)])
    run = is_as_of_one_process(options, there, tmp_path)
    assert run == there / "outputs" / "slurm-41234-2"


def test_torchrun_takes_precedence_over_srun_and_one_task_is_no_launch():
    elastic = {"TORCHELASTIC_RUN_ID": "none", "RANK": "3", "WORLD_SIZE": "4"}
    assert launch(of_slurm(1) | elastic) == Launch("torchrun", 3, 4)
    assert launch(of_slurm(1)) == Launch("srun", 1, 2)
    assert launch(of_slurm(0) | {"SLURM_NTASKS": "1"}) is None
    assert launch({}) is None


def test_a_run_of_one_process_is_named_after_its_start(monkeypatch):
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-[0-9a-f]{6}", stamp())
    assert stamp() != stamp()
    assert first_only(".hydra") == ".hydra"


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_writes_its_config(rank, monkeypatch):
    for name, value in of_slurm(rank).items():
        monkeypatch.setenv(name, value)
    assert stamp() == "slurm-41234-2"
    assert first_only(".hydra") == (None if rank else ".hydra")


def test_another_number_of_devices_than_started_processes_is_refused(monkeypatch):
    with pytest.raises(ThawError, match=r"start it on each machine with torchrun or srun"):
        require_world(compose(["trainer.num_nodes=2"]))
    for name, value in of_slurm(0).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ThawError, match=r"srun started 2 processes, but trainer\.devices=1"):
        require_world(compose([]))
    require_world(compose(["trainer.num_nodes=2"]))


def test_a_sweep_started_in_several_processes_is_refused(overrides, monkeypatch, tmp_path):
    for name, value in of_slurm(0).items():
        monkeypatch.setenv(name, value)
    done, _ = sweep_of(*overrides, "seed=1,2", cwd=tmp_path)
    assert done.returncode == 2
    assert "thaw: srun has started 2 processes, and each would run this sweep" in done.stderr
