"""`wandb agent` starts trials of docs/wandb-sweep.yaml: a run on W&B each, with the agent's id."""

import json

import yaml

from helpers.tiny import REPOSITORY
from helpers.wandb_file import Offline
from helpers.warm import python

SWEEP = yaml.safe_load((REPOSITORY / "docs" / "wandb-sweep.yaml").read_text())


def command(parameters):
    """The command line of a trial, as W&B's own code makes it of the sweep's file."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    args = create_sweep_command_args({"args": {k: {"value": v} for k, v in parameters.items()}})
    words = []
    for word in create_sweep_command(SWEEP["command"]):
        if word == "${args_no_hyphens}":
            words += args["args_no_hyphens"]
        elif word not in ("${env}", "${interpreter}"):
            words.append(SWEEP["program"] if word == "${program}" else word)
    return words


def test_a_trial_is_the_agents_run_and_goes_on_as_that_run(overrides, tmp_path):
    chosen = {"task.learning_rate": 0.004, "data.batch_size": 16, "seed": 2}
    assert set(chosen) == set(SWEEP["parameters"])
    (tmp_path / "trial.yaml").write_text(
        yaml.safe_dump({"wandb_version": 1} | {k: {"value": v} for k, v in chosen.items()})
    )
    environment = {
        "WANDB_SWEEP_ID": "sweep123",
        "WANDB_RUN_ID": "trial456",
        "WANDB_SWEEP_PARAM_PATH": str(tmp_path / "trial.yaml"),
        "WANDB_PROJECT": "thaw",
    }
    own = [w for w in overrides if w.split("=")[0] not in ("logger", *chosen)]
    directory = tmp_path / "run"
    words = [*command(chosen), *own, "trainer.max_epochs=1", f"hydra.run.dir={directory}"]
    done = python(*words, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (directory / "wandb_id.txt").read_text() == "trial456"
    assert [p.name for p in directory.glob("wandb/offline-run-*/*.wandb")] == ["run-trial456.wandb"]
    logged = Offline(directory)
    metrics = json.loads((directory / "metrics.json").read_text())
    assert SWEEP["metric"]["name"] in logged.history
    assert logged.summary["test/f1"] == metrics["test/f1"]


def test_only_a_trial_takes_the_id_of_its_environment(tmp_path, monkeypatch):
    from thaw.training.loggers import LateWandb

    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    logger = LateWandb(str(tmp_path))
    assert logger.kept_id() != "mine", "the jobs of -m would all be one run"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
    assert logger.kept_id() != "mine", "a resumed run goes on as itself"
    (tmp_path / "wandb_id.txt").unlink()
    assert logger.kept_id() == "mine"
