"""experiment=chapter/adapt and adaptation_curve: a task with and without pretraining."""

import json

import pytest
from omegaconf import OmegaConf

from helpers.runs import metrics_of
from helpers.sweeps import rows_of
from helpers.tiny import REPOSITORY
from helpers.wandb_file import Offline
from helpers.warm import python
from thaw.adapt import labelled_texts, require_read
from thaw.cli.compose import compose
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate
from thaw.predict import main as predict

HEAD = 'adapt.head=["freeze=head","trainer.max_epochs=1","task.probes=[]"]'


def sweep(*words, cwd):
    done = python(REPOSITORY / "train.py", *words, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.no_figures
def test_each_seed_pretrains_once_and_classifies_with_and_without(overrides, tmp_path):
    options = [w for w in overrides if not w.startswith("trainer.max_epochs")]
    words = ["experiment=chapter/adapt", *options, "seed=1,2", "trainer.max_epochs=1", HEAD]
    words += ['adapt.pretrain=["task=mlm","data.batch_size=16"]', "data.label=label"]
    root = tmp_path / "sweep"
    shown = sweep(*words, f"hydra.sweep.dir={root}", cwd=tmp_path)
    rows = rows_of(root)
    assert [row["status"] for row in rows] == ["done"] * 4
    assert [row["adapt.pretrained"] for row in rows] == ["False", "False", "True", "True"]
    assert shown.count("probes, end") == 2
    assert (
        (root / "summary.md").read_text().startswith("| adapt.pretrained | runs | val/f1 | test/f1")
    )
    for row in rows:
        began = (root / row["job"] / ".hydra" / "resolved.yaml").read_text()
        pretrained = row["adapt.pretrained"] == "True"
        assert (f"pretrain/seed-{row['seed']}/model" in began) == pretrained
    run = root / "pretrain" / "seed-1"
    metrics, head = metrics_of(run), metrics_of(run / "head")
    assert head["start/loss"] != head["val/loss"]
    assert head["val/loss"] == pytest.approx(metrics["start/loss"], rel=1e-4)  # it goes on there
    report = (run / "report.html").read_text().partition("frozen encoder")[2]
    for name in ("start/frozen_f1", "val/frozen_f1"):  # of the labels that the classifier reads
        assert 0 < metrics[name] <= 1
        assert f"{metrics[name]:.4f}" in report
    assert "val/frozen_f1" in (run / "metrics.csv").read_text()
    again = evaluate([f"run={run}", "trainer.accelerator=cpu"])
    assert again["test/loss"] == pytest.approx(metrics["test/loss"], rel=1e-5)

    (root / "3" / "metrics.json").unlink()  # as if killed in the last run
    shown = sweep(f"resume={root}", cwd=tmp_path)
    assert shown.count("run directory: ") == 1
    assert "probes, end" not in shown
    assert metrics_of(root / "3")["test/f1"] == float(rows[3]["test/f1"])
    (tmp_path / "new.txt").write_text("a good film\n")
    assert predict([f"run={root / '3'}", f"input={tmp_path / 'new.txt'}", "accelerator=cpu"]) == 1


@pytest.mark.no_figures
def test_the_curve_sweeps_labels_and_leaves_pretraining_without_what_is_the_classifiers(
    overrides, tmp_path
):
    words = ["experiment=adaptation_curve", *overrides, "data.shots=2,4", "data.steps=2", "seed=1"]
    words += ["data.label=label", "task=setfit", "trainer.max_epochs=1", "logger=wandb", HEAD]
    words += ["freeze=head", "monitor=val/f1_macro"]
    root = tmp_path / "sweep"
    shown = sweep(*words, f"hydra.sweep.dir={root}", cwd=tmp_path)
    assert [row["adapt.pretrained"] for row in rows_of(root)] == ["False", "True"] * 2
    assert shown.count("probes, end") == 1
    header = (root / "summary.md").read_text().splitlines()[0]
    assert header.startswith("| data.shots | adapt.pretrained | runs | val/f1_macro | test/f1")
    kept = OmegaConf.load(root / "pretrain" / "seed-1" / ".hydra" / "config.yaml")
    assert kept.freeze._target_ == "thaw.encoder.freeze.NoFreezing"
    assert kept.task.frozen_score.label == "label"
    assert "shots" not in kept.task.frozen_score
    pretrained, classified = Offline(root / "pretrain" / "seed-1"), Offline(root / "1")
    assert pretrained.name == f"{classified.name} pretrain/seed-1"
    assert pretrained.group == classified.group == "sweep"
    assert len(pretrained.history["val/frozen_f1"]) > 1


def test_entities_are_found_with_and_without_pretraining_on_the_words_of_the_same_data(
    ner_overrides, tmp_path
):
    experiments = tmp_path / "conf" / "experiment"
    experiments.mkdir(parents=True)
    (experiments / "own.yaml").write_text(
        "# @package _global_\ndefaults: [adaptation_curve, override /data: conll, _self_]\n"
    )
    options = [word for word in ner_overrides if word != "data=conll"]
    words = [f"--config-dir={tmp_path / 'conf'}", "experiment=own", *options, "seed=1"]
    steps = '"trainer.max_steps=40","trainer.max_epochs=-1"'
    words += ["data.train_size=16,null", "adapt.head=null", f'adapt.pretrain=["task=mlm",{steps}]']
    root = tmp_path / "sweep"
    shown = sweep(*words, f"hydra.sweep.dir={root}", cwd=tmp_path)
    assert [row["status"] for row in rows_of(root)] == ["done"] * 4
    assert shown.count("probes, end") == 1
    header = (root / "summary.md").read_text().splitlines()[0]
    assert header.startswith("| data.train_size | adapt.pretrained | runs | val/f1 | test/f1")
    assert "against data.train_size" in (root / "report.html").read_text()
    pretrained = root / "pretrain" / "seed-1"
    assert metrics_of(pretrained)["steps"] == 40  # 5 epochs of so few texts
    kept = OmegaConf.load(pretrained / ".hydra" / "config.yaml")
    assert kept.data.name == "conll"
    assert kept.task.frozen_score is None
    read = {run: json.loads((run / "data.json").read_text()) for run in (pretrained, root / "0")}
    assert [found["splits"]["train"]["texts"] for found in read.values()] == [64, 16]


def test_a_number_of_texts_that_the_task_does_not_read_is_answered_with_one_that_it_does():
    cfg = compose(["task=ner", "data=conll", "run_dir=."])
    with pytest.raises(ThawError, match=r"data\.shots=32: this .* data\.train_size=256,1024,null"):
        require_read(cfg.data, ["data.shots=32"])
    require_read(cfg.data, ["data.shots=null", "data.train_size=256"])


def test_labels_of_words_or_no_validation_give_no_score(caplog):
    with caplog.at_level("INFO"):
        for words in (["task=ner"], ["data.validation=null"]):
            assert labelled_texts(compose([*words, "run_dir=."]).data) is None
    assert caplog.text.count("the frozen encoder is not scored") == 2
