"""A user's own Lightning Trainer: data and task work without thaw's command line."""

import lightning.pytorch as pl
import pytest
import torch

from thaw.data.mlm import MaskedLanguageModelData
from thaw.data.sequence import SequenceData
from thaw.encoder.freeze import GradualUnfreezing, LastBlocks
from thaw.tasks.mlm import MaskedLanguageModel
from thaw.tasks.sequence import SequenceClassification


def trainer_in(directory, **options):
    return pl.Trainer(
        accelerator="cpu",
        max_steps=8,
        max_epochs=-1,
        default_root_dir=directory,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def data_of(kind, checkpoint, reviews, **options):
    return kind(
        name="files",
        tokenizer=checkpoint,
        path=str(reviews),
        train="train.csv",
        validation="validation.csv",
        test="test.csv",
        max_tokens=64,
        batch_size=8,
        **options,
    )


@pytest.fixture
def data(tiny_bert, reviews):
    return data_of(SequenceData, tiny_bert, reviews)


def test_fit_and_test_of_a_plain_lightning_trainer_train_a_classifier(data, tiny_bert, tmp_path):
    data.setup("fit")
    pl.seed_everything(0, verbose=False)
    task = SequenceClassification(tiny_bert, learning_rate=3e-3, **data.task_kwargs())
    before = task.model.classifier.weight.clone()
    trainer = trainer_in(tmp_path)
    trainer.fit(task, data)
    assert trainer.global_step == 8
    assert not torch.equal(task.model.classifier.weight, before)
    [scores] = trainer.test(task, data, verbose=False)
    assert 0 <= scores["test/f1"] <= 1
    results = task.test_results()
    assert list(results.outputs) == list(range(22))
    assert all(sum(p) == pytest.approx(1, abs=1e-5) for p in results.outputs.values())


def test_data_is_read_by_fit_itself_and_once(tiny_bert, reviews, tmp_path, monkeypatch):
    reads = []
    read = MaskedLanguageModelData.read
    monkeypatch.setattr(
        MaskedLanguageModelData, "read", lambda self, *args: (reads.append(1), read(self, *args))
    )
    data = data_of(MaskedLanguageModelData, tiny_bert, reviews)
    trainer = trainer_in(tmp_path)
    trainer.fit(MaskedLanguageModel(tiny_bert), data)
    trainer.test(verbose=False, model=trainer.lightning_module, datamodule=data)
    assert trainer.global_step == 8
    assert reads == [1]


@pytest.mark.parametrize(
    ("strategy", "trained"),
    [(LastBlocks(1), [False, True]), (GradualUnfreezing(every=4, blocks=1), [False, True])],
)
def test_a_freeze_strategy_needs_no_callback_of_the_user(
    data, tiny_bert, tmp_path, strategy, trained
):
    data.setup("fit")
    task = SequenceClassification(
        tiny_bert, freeze=strategy, learning_rate=3e-3, **data.task_kwargs()
    )
    blocks = task.model.bert.encoder.layer
    before = [block.output.dense.weight.clone() for block in blocks]
    trainer_in(tmp_path).fit(task, data)
    changed = [
        not torch.equal(block.output.dense.weight, old)
        for block, old in zip(blocks, before, strict=True)
    ]
    assert changed == trained
