"""What a command loads: help and mistakes are answered without torch."""

import pytest

from helpers.runs import loaded_after
from helpers.watch import Watch

pytestmark = pytest.mark.no_figures


def test_wandb_starts_after_the_first_step(run, tmp_path):
    Watch.started.clear()
    directory = run(
        "logger=wandb",
        "+callbacks.watch._target_=helpers.watch.Watch",
        "trainer.log_every_n_steps=3",
        "trainer.max_epochs=1",
    )
    assert Watch.started[0] is False
    assert Watch.started[-1] is True
    assert list((directory / "wandb").rglob("*.wandb"))


def test_help_loads_nothing_heavy():
    assert loaded_after("--help") == (0, [], "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["task.lerning_rate=1"], "Did you mean task.learning_rate"),
        (["task=sequnce"], "Did you mean sequence"),
        (["+task.lr=1"], "there is no option task.lr."),
        (["task.learning_rate=fast"], "task.learning_rate='fast' does not fit"),
        (["data.batch_size=0"], "data.batch_size=0 does not fit"),
        (["trainer.max_epochs=x"], "trainer.max_epochs='x' does not fit"),
        (["trainer.precision=bf17"], "trainer.precision='bf17' does not fit"),
        (["task=ner", "data.scheme=iob3"], "data.scheme='iob3' does not fit"),
        (["task=mlm", "data.pack=rows"], "data.pack='rows' does not fit"),
        (["task=mlm", "task.masking=words"], "task.masking='words' does not fit"),
        (["task=ner", "data.label=stars"], "this task does not read data.label"),
        (["data=files", "data.train=nowhere.csv"], "nowhere.csv: no such file"),
        (["data=files"], "needs data.train=<file>"),
        (["data=files", "data.train=a.csv", "data.reader=nowhere.rows"], "no module 'nowhere'"),
        (["data=files", "data.format=cvs"], "data.format='cvs' does not fit"),
        (["model.checkpoint=bert-base-cased"], "on the Hub a name is owner/name"),
        (["run_dir=other"], "named by hydra.run.dir=other"),
        (["resume=nowhere"], "nowhere: no such directory"),
        (["resume=tests"], "tests: no run began there"),
        (["freeze=last", "freeze.blocks=-1"], "freeze.blocks=-1 does not fit"),
        (["monitor=val/F1"], "Did you mean val/f1"),
        (["monitor=val_loss"], "Did you mean val/loss"),
        (["monitor=val/loss", "monitor_mode=max"], "Add monitor_mode=min"),
        (
            ["experiment=chapter/adapt", "hydra.mode=RUN", "data.batch_size=0"],
            "data.batch_size=0 does not fit",
        ),
    ],
)
def test_a_mistake_is_answered_before_anything_heavy_is_loaded(options, message, tmp_path):
    code, heavy, stderr = loaded_after(*options, f"hydra.run.dir={tmp_path}")
    assert (code, heavy) == (2, []), stderr
    assert message in stderr


def test_a_mistake_in_data_is_said_without_a_line_of_hydra(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n")
    words = ["data=files", f"data.train={tmp_path / 'a.csv'}", f"hydra.run.dir={tmp_path / 'run'}"]
    for train in (words, [*words[:1], "data.train=nowhere.csv", words[2]]):
        code, _, stderr = loaded_after(*train)
        assert code == 2
        assert stderr.startswith("\nthaw: "), stderr
