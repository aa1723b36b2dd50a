"""Runs on a GPU: `THAW_TEST_GPU=1 python -m pytest tests/runs/test_gpu.py` where there is one."""

import logging
from math import isfinite

import pytest
import torch

from helpers.runs import metrics_of, overrides_of, resumed
from thaw.evaluate import main as evaluate
from thaw.model import load

pytestmark = [
    pytest.mark.no_figures,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

ON_GPU = ["trainer.accelerator=gpu", "trainer.gradient_clip_val=1.0"]
OPTIONS = {
    "auto": ["trainer.precision=auto"],
    "by value": ["trainer.precision=bf16-mixed", "trainer.gradient_clip_algorithm=value"],
    "float16": ["trainer.precision=16-mixed"],
    "float32": ["trainer.precision=32-true"],
    "compiled": ["trainer.precision=auto", "trainer.compile=true"],
    "frozen": ["trainer.precision=auto", "freeze=last"],
    "lora": ["trainer.precision=auto", "freeze=lora"],
    "adafactor": ["trainer.precision=auto", "optimizer=adafactor"],
}


@pytest.mark.parametrize("task", ["sequence", "ner", "mlm", "setfit"])
def test_each_task_trains_with_its_defaults_and_is_used(
    task, run, overrides, ner_overrides, tiny_bert, reviews, caplog
):
    caplog.set_level(logging.INFO)
    options = overrides_of(task, overrides, ner_overrides, tiny_bert)
    directory = run(*options, *ON_GPU, "trainer.precision=auto")
    scores = metrics_of(directory)
    assert all(isfinite(value) for value in scores.values())
    if task == "mlm":
        return
    assert "bf16-mixed" in caplog.text
    again = evaluate([f"run={directory}"])
    tested = {key: value for key, value in scores.items() if key.startswith("test/")}
    assert {key: again[key] for key in tested} == pytest.approx(tested, abs=0.02)
    words = ["a", "good", "film"]
    text = words if task == "ner" else " ".join(words)
    for precision in ("32-true", "bf16-true", "auto"):
        model = load(directory, accelerator="gpu", precision=precision)
        assert len(list(model.predict([text] * 3))) == 3


@pytest.mark.parametrize("name", list(OPTIONS))
def test_options_of_the_trainer_train_on_a_gpu(name, run):
    scores = metrics_of(run(*ON_GPU, *OPTIONS[name]))
    assert all(isfinite(value) for value in scores.values())


def test_a_stopped_run_resumes_to_what_it_would_have_been(run, monkeypatch):
    options = [*ON_GPU, "trainer.precision=32-true"]
    whole = metrics_of(run(*options, name="whole"))
    parts = metrics_of(resumed(run, monkeypatch, *options))
    scores = {key: whole[key] for key in whole if key.startswith(("val/", "test/"))}
    assert {key: parts[key] for key in scores} == pytest.approx(scores, abs=1e-3)
