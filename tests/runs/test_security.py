"""What comes from elsewhere is read and never executed: a model, a checkpoint, a run directory."""

import json
import pickle
import re
import shutil
from pathlib import Path

import joblib
import pytest
import torch
from omegaconf import OmegaConf

from helpers.tiny import REPOSITORY
from thaw.cli.resume import command_to_resume
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate
from thaw.predict import main as predict

pytestmark = pytest.mark.no_figures

PICKLES = ("pytorch_model.bin", "training_args.bin", "model_head.pkl", "optimizer.pt")


class Payload:
    """What unpickling it does: a file appears."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path):
    """A file that appears if something is executed; the test fails if it does."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


def poison(directory, marker, names=PICKLES):
    """Adds pickled files that execute a payload to a directory."""
    for name in names:
        if name.endswith(".pkl"):
            joblib.dump(Payload(marker), directory / name)
        else:
            torch.save({"state_dict": {}, "more": Payload(marker)}, directory / name)


def poisoned(model, directory, marker):
    """A copy of a model with pickled payloads beside its safetensors."""
    shutil.copytree(model, directory)
    poison(directory, marker)
    return directory


def without_safetensors(directory):
    for path in directory.glob("*.safetensors"):
        path.unlink()
    return directory


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("model_head.pkl", joblib.load),
        ("pytorch_model.bin", lambda path: torch.load(path, weights_only=False)),
    ],
)
def test_the_payload_would_be_executed_by_one_who_trusts_it(name, load, tmp_path):
    marker = tmp_path / "executed"
    poison(tmp_path, marker)
    assert not marker.exists()
    load(tmp_path / name)
    assert marker.exists()


@pytest.mark.parametrize("task", ["sequence", "setfit", "mlm"])
def test_training_ignores_pickles_beside_safetensors(task, run, tiny_bert, marker, tmp_path):
    model = poisoned(tiny_bert, tmp_path / "model", marker)
    overrides = {"setfit": ["task.shots=4", "task.steps=1"], "mlm": ["task.probes=[]"]}.get(
        task, []
    )
    run(f"task={task}", f"model.checkpoint={model}", "trainer.max_epochs=1", *overrides)


@pytest.mark.parametrize("task", ["sequence", "setfit"])
def test_training_refuses_a_model_of_pickles_alone(task, run, tiny_bert, marker, tmp_path):
    model = without_safetensors(poisoned(tiny_bert, tmp_path / "model", marker))
    with pytest.raises(ThawError, match=r"no weights as safetensors.*can run code"):
        run(f"task={task}", f"model.checkpoint={model}")


def test_training_refuses_an_index_of_safetensors_that_names_a_pickle(
    run, tiny_bert, marker, tmp_path
):
    model = poisoned(tiny_bert, tmp_path / "model", marker)
    (model / "model.safetensors").rename(model / "other.safetensors")
    names = ["embeddings.word_embeddings.weight", "embeddings.LayerNorm.weight"]
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "pytorch_model.bin")}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ThawError, match=r"index\.json names pytorch_model\.bin"):
        run(f"model.checkpoint={model}")


def test_code_in_a_model_directory_is_not_imported(run, tiny_bert, marker, tmp_path):
    model = shutil.copytree(tiny_bert, tmp_path / "model")
    (model / "evil.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
    classes = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification")
    for name, found in {
        "config.json": {kind: "evil.Model" for kind in classes},
        "tokenizer_config.json": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]},
    }.items():
        config = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(config | {"auto_map": found}))
    run(f"model.checkpoint={model}", "trainer.max_epochs=1")


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_checkpoint_with_a_payload_is_skipped(form, run, finished_copy, marker, caplog):
    options = ("trainer.max_epochs=1", "trainer.val_check_interval=0.25")
    directory = finished_copy(*options)
    last = directory / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True) | {"more": Payload(marker)}
    if form == "pickle":
        last.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, last, _use_new_zipfile_serialization=form == "zip")
    (directory / "metrics.json").unlink()
    caplog.set_level("INFO")
    run(*options, f"resume={directory}")
    assert f"{last} is damaged and passed over" in caplog.text
    assert "from previous.ckpt" in caplog.text


def test_a_run_that_names_code_resumes_only_if_the_code_is_typed_again(finished_copy, marker):
    directory = finished_copy("trainer.max_epochs=1")
    (directory / "metrics.json").unlink()
    word = "+callbacks.more._target_=pathlib.Path.touch"
    path = directory / ".hydra" / "overrides.yaml"
    path.write_text(f"{path.read_text()}- {word}\n")
    with pytest.raises(ThawError, match="names code to run"):
        command_to_resume([f"resume={directory}"])
    assert word in command_to_resume([f"resume={directory}", word])


@pytest.mark.parametrize("task", ["sequence", "setfit"])
def test_a_runs_model_is_predicted_with_and_evaluated_by_its_tensors(
    task, finished_copy, reviews, marker, tmp_path
):
    few = ("task=setfit", "task.shots=8", "task.steps=2")
    directory = finished_copy(*(few if task == "setfit" else ()), "trainer.max_epochs=1")
    poison(directory / "model", marker)
    poison(directory / "checkpoints", marker, ("best.ckpt", "last.ckpt"))
    commands = (
        (predict, [f"run={directory}", f"input={reviews}/test.csv", f"output={tmp_path}/out.csv"]),
        (evaluate, [f"run={directory}"]),
    )
    for main, given in commands:
        assert main(given)
    without_safetensors(directory / "model")
    for main, given in commands:
        with pytest.raises(ThawError):
            main(given)


NAMING_CODE = (
    "data.path={_target_: pathlib.Path.touch, self: MARKER}",
    "data.labels=[{_target_: os.system, command: 'touch MARKER'}]",
    "data._target_=subprocess.getoutput",
    "task._target_=os.system",
    "task.class_weights={_target_: thaw.export.write_atomic, path: MARKER, text: x}",
    "trainer.precision={_target_: os.system, command: 'touch MARKER'}",
)


def test_a_run_directory_that_names_code_is_refused(finished_copy, reviews, marker):
    directory = finished_copy("trainer.max_epochs=1")
    path = directory / ".hydra" / "overrides.yaml"
    overrides = list(OmegaConf.load(path))
    for word in NAMING_CODE:
        OmegaConf.save(OmegaConf.create([*overrides, word.replace("MARKER", str(marker))]), path)
        with pytest.raises(ThawError, match=r"names code to run|does not fit"):
            evaluate([f"run={directory}"])
    for name in ("resolved.yaml", "config.yaml"):  # runs of thaw 0.1 have the second one alone
        path = directory / ".hydra" / name
        cfg = OmegaConf.load(path)
        cfg.task._target_ = "os.system"
        OmegaConf.save(cfg, path)
        with pytest.raises(ThawError, match=r"names code to run, os\.system"):
            predict([f"run={directory}", f"input={reviews}/test.csv"])
        (directory / ".hydra" / "resolved.yaml").unlink(missing_ok=True)


def test_nothing_trusts_code_from_the_hub():
    files = [*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "conf").rglob("*.yaml")]
    found = re.findall(r"trust_remote_code\W+(\w+)", "".join(f.read_text() for f in files))
    assert found
    assert set(found) == {"False"}
