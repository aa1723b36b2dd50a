"""`trainer.devices=2`: two processes give what one gives, alone and in a sweep."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers.runs import curve, files_of, metrics_of, overrides_of, result, typed
from helpers.sweeps import rows_of as summary_of
from helpers.sweeps import sweep_of
from helpers.tiny import REPOSITORY, save_tiny, tiny_config, write_csv
from thaw.data.batch.samplers import LengthGroupedBatches

pytestmark = pytest.mark.no_figures

CALIBRATED = {task: ["task.calibrate=true"] for task in ("sequence", "setfit")}


@pytest.fixture(scope="module")
def still_bert(tmp_path_factory):
    """A tiny BERT without dropout: its weights do not depend on who draws random numbers."""
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return save_tiny("BertModel", config, tmp_path_factory.mktemp("models") / "still-bert")


@pytest.mark.parametrize("task", ["sequence", "regression", "ner", "mlm", "setfit"])
def test_two_processes_leave_what_one_leaves(task, overrides, ner_overrides, still_bert, tmp_path):
    options = overrides_of(task, overrides, ner_overrides, still_bert)
    options += CALIBRATED.get(task, [])
    if task == "regression":
        options.append(f"data.path={numbered(tmp_path, overrides)}")
    leaves_what_one_leaves(options, ["trainer.devices=2"], tmp_path)


def test_two_processes_leave_what_one_leaves_of_windows(overrides, still_bert, tmp_path):
    options = overrides_of("sequence", overrides, [], still_bert)
    windows = ["data.long=windows", "data.max_tokens=8", "task.windows_at_once=5"]
    leaves_what_one_leaves([*options, *windows], ["trainer.devices=2"], tmp_path)


def numbered(directory, overrides):
    """A directory with the texts of `overrides`, and as labels the numbers of their letters."""
    [path] = [Path(w.split("=")[1]) for w in overrides if w.startswith("data.path=")]
    for name in ("train", "validation", "test"):
        with open(path / f"{name}.csv", newline="") as file:
            rows = [(row["text"], len(row["text"])) for row in csv.DictReader(file)]
        write_csv(directory / f"{name}.csv", rows, ["text", "label"])
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sequence", "regression", "ner", "mlm"])
@pytest.mark.parametrize("freeze", [["freeze=none"], ["freeze=last"]], ids=["none", "last"])
def test_two_processes_with_sharded_weights_leave_what_one_leaves(
    task, freeze, overrides, ner_overrides, still_bert, tmp_path
):
    options = [
        *overrides_of(task, overrides, ner_overrides, still_bert),
        *freeze,
        *CALIBRATED.get(task, []),
        "freeze.cache=false",
    ]
    if task == "regression":
        options.append(f"data.path={numbered(tmp_path, overrides)}")
    leaves_what_one_leaves(options, ["trainer=fsdp"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [["trainer=fsdp"], ["trainer=fsdp", "freeze=last", "freeze.cache=false"], ["trainer=ddp"]],
    ids=["fsdp", "fsdp, frozen", "ddp"],
)
def test_two_processes_resume_in_the_middle_of_an_epoch(options, overrides, still_bert, tmp_path):
    every = "callbacks.checkpoint.every_n_train_steps=2"  # of 8
    options = [*overrides_of("sequence", overrides, [], still_bert), *options, every]
    run([*options, "data.batch_size=4"], tmp_path / "whole")
    on = cut_off(tmp_path / "whole", tmp_path / "on")
    done = typed([f"resume={on}"], on)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on after step 6, from previous.ckpt" in done.stdout
    assert curve(on) == curve(tmp_path / "whole")
    assert metrics_of(on)["best_step"] == 8
    assert result(on) == result(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["task=setfit", "task.shots=8"], "task=setfit fits its head to the whole encoder"),
        (["task=mlm", "task.probes=['a [MASK]']"], "task.probes=[]"),
        (["trainer.precision=16-mixed"], "does not support"),
        (["optimizer=adafactor"], "trainer=ddp, or optimizer=adamw"),
    ],
    ids=["setfit", "probes", "float16", "adafactor"],
)
def test_what_needs_the_whole_model_is_refused(options, message, overrides, tmp_path):
    known = [w for w in overrides if not w.startswith("trainer.precision")]
    done = typed([*known, "trainer=fsdp", "trainer.precision=32-true", *options], tmp_path / "run")
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sequence", "ner", "mlm", "setfit"])
def test_compiled_blocks_train_in_two_processes_and_resume(
    task, overrides, ner_overrides, still_bert, tmp_path
):
    options = overrides_of(task, overrides, ner_overrides, still_bert)
    options += ["trainer.devices=2", "data.batch_size=4"]
    options.append("callbacks.checkpoint.every_n_train_steps=2")
    run(options, tmp_path / "plain")
    run([*options, "trainer.compile=true"], tmp_path / "compiled")
    is_the_same(tmp_path / "plain", tmp_path / "compiled")
    on = cut_off(tmp_path / "compiled", tmp_path / "on")
    done = typed([f"resume={on}"], on)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on after step" in done.stdout
    is_the_same(tmp_path / "compiled", on)


def cut_off(whole, directory):
    """A copy of a finished run, as if it was killed before its last checkpoint."""
    shutil.copytree(whole, directory)
    for name in ("metrics.json", "checkpoints/last.ckpt"):
        (directory / name).unlink()
    return directory


def run(overrides, directory):
    done = typed(overrides, directory)
    assert done.returncode == 0, done.stdout + done.stderr


def leaves_what_one_leaves(overrides, several, tmp_path):
    run(overrides, tmp_path / "one")
    run([*overrides, *several, "data.batch_size=4"], tmp_path / "two")
    is_the_same(tmp_path / "one", tmp_path / "two")


def is_the_same(one, two):
    """Whether a run of two processes left what a run of one did."""
    assert files_of(two) == files_of(one)
    before, after = metrics_of(one), metrics_of(two)
    assert after["steps"] == before["steps"]
    for name in (n for n in before if n.startswith(("test/", "val/"))):
        assert after[name] == pytest.approx(before[name], rel=1e-5, abs=1e-4), name
    weights = [load_file(run / "model" / "model.safetensors") for run in (one, two)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_states_of_frozen_blocks_are_computed_once_for_all_processes(overrides, tmp_path):
    options = [*overrides, "freeze=last", f"freeze.cache.path={tmp_path / 'prefix'}"]
    # Of two runs, not of two processes of one: there the second one says nothing.
    runs = [
        subprocess.Popen(
            [sys.executable, "train.py", *options, f"hydra.run.dir={tmp_path / name}"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("one", "two")
    ]
    said = "".join(run.communicate()[0] for run in runs)
    assert [run.returncode for run in runs] == [0, 0], said
    for split in ("train", "validation", "test"):
        assert said.count(f" texts of {split} computed in ") == 1, said
    assert len(list((tmp_path / "prefix").glob("*.states"))) == 3


def test_each_job_of_a_sweep_has_processes_of_its_own(overrides, tmp_path):
    done, sweep = sweep_of(
        *overrides,
        "freeze=last",
        "trainer.max_epochs=1",
        "freeze.blocks=9,1",
        "trainer.devices=2",
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert [r["status"] for r in summary_of(sweep)] == ["failed", "done"]
    assert summary_of(sweep)[0]["reason"].startswith("freeze.blocks=9: this model has 2 blocks")
    assert len(list(tmp_path.glob("multirun/*/*"))) == 1
    assert done.stdout.count("run directory: ") == 1
    assert "trainer.devices=2" in (sweep / "1" / ".hydra" / "overrides.yaml").read_text()
    assert not list((sweep / "1").glob("*process*"))


@pytest.mark.slow
def test_an_experiment_that_is_a_sweep_has_jobs_with_processes_too(overrides, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            REPOSITORY / "train.py",
            "experiment=few_shot_curve",
            *overrides,
            "data.shots=2,4",
            "task=setfit",
            "freeze=head",
            "seed=1",
            "trainer.devices=2",
            f"hydra.sweep.dir={tmp_path / 'sweep'}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [r["status"] for r in summary_of(tmp_path / "sweep")] == ["done", "done"]


@pytest.mark.parametrize("count", [5, 16, 41, 64, 401])
@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("shuffle", [True, False])
def test_no_text_is_lost_or_doubled_and_no_process_left_without(
    count, world_size, batch_size, shuffle
):
    lengths = np.random.default_rng(0).integers(3, 30, count)
    ranks = [
        LengthGroupedBatches(
            lengths, batch_size, shuffle=shuffle, window=10, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]
    shares = [list(rank) for rank in ranks]
    assert {len(share) for share in shares} == {len(ranks[0])}
    assert all(batch for share in shares for batch in share)
    assert sorted(i for share in shares for batch in share for i in batch) == list(range(count))


@pytest.mark.slow
def test_two_processes_agree_on_the_ids_of_labels_that_tie(still_bert, tmp_path, monkeypatch):
    """Labels that are equal as numbers, in processes that hash strings otherwise each."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    names = ["1", "1.0", "2", "2.0", "nan"]
    rows = [(f"a film {name} number {i}", name) for i in range(8) for name in names]
    write_csv(tmp_path / "codes.csv", rows, ["text", "label"])
    words = ["data=files", f"data.train={tmp_path / 'codes.csv'}", "data.validation=0.2"]
    words += [f"model.checkpoint={still_bert}", "data.max_tokens=32", "task.learning_rate=1e-3"]
    words += [
        "trainer.accelerator=cpu",
        "trainer.max_epochs=2",
        "logger=none",
        "freeze.cache=false",
    ]
    heads = []
    for devices in (1, 2):
        run = tmp_path / str(devices)
        found = typed(
            [*words, f"trainer.devices={devices}", f"data.batch_size={8 // devices}"], run
        )
        assert found.returncode == 0, found.stdout + found.stderr
        config = json.loads((run / "model" / "config.json").read_text())
        assert list(config["id2label"].values()) == names
        heads.append(load_file(run / "model" / "model.safetensors")["classifier.weight"])
    # Ranks whose classes mean other things would average gradients of other heads.
    torch.testing.assert_close(*heads)
