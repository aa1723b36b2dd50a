import copy

import pytest
import torch
from transformers import BertForSequenceClassification, Trainer, TrainingArguments

from helpers.tiny import tiny_config
from thaw.encoder.freeze import HeadOnly
from thaw.training.optim import build_optimizer, build_schedule, clip_in_step, decayed


def test_the_same_parameters_decay_as_in_transformers_trainer(tmp_path):
    model = BertForSequenceClassification(tiny_config())
    trainer = Trainer(model, TrainingArguments(output_dir=str(tmp_path), use_cpu=True))
    assert decayed(model) == set(trainer.get_decay_parameter_names(model))


def test_steps_equal_those_of_transformers_trainers_optimizer(tmp_path):
    torch.manual_seed(0)
    one = BertForSequenceClassification(tiny_config())
    two = BertForSequenceClassification(tiny_config())
    two.load_state_dict(one.state_dict())
    arguments = TrainingArguments(
        output_dir=str(tmp_path), learning_rate=1e-2, weight_decay=0.1, warmup_steps=2, use_cpu=True
    )
    trainer = Trainer(two, arguments)
    trainer.create_optimizer_and_scheduler(num_training_steps=10)
    ours = build_optimizer(one, 1e-2, 0.1)
    schedule = build_schedule(ours, 10, 2)
    ids = torch.randint(5, 300, (4, 8), generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        for model, optimizer, scheduler in (
            (one.eval(), ours, schedule),
            (two.eval(), trainer.optimizer, trainer.lr_scheduler),
        ):
            optimizer.zero_grad()
            model(input_ids=ids, labels=torch.tensor([0, 1, 0, 1])).loss.backward()
            optimizer.step()
            scheduler.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_the_rate_rises_then_falls_to_zero():
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_schedule(optimizer, steps=10, warmup=2)
    rates = []
    for _ in range(11):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:3] == [0.0, 0.5, 1.0]
    assert rates[6] == pytest.approx(0.5)
    assert rates[10] == 0.0


def test_frozen_parameters_are_not_in_the_optimizer():
    model = BertForSequenceClassification(tiny_config())
    HeadOnly()(model)
    held = {
        id(p) for group in build_optimizer(model, 1e-3, 0.01).param_groups for p in group["params"]
    }
    names = [n for n, p in model.named_parameters() if id(p) in held]
    assert names == [
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_norm", [1e-3, 1e3])
def test_clipping_within_the_step_equals_clipping_before_it(max_norm, dtype):
    torch.manual_seed(0)
    one = BertForSequenceClassification(tiny_config()).eval().to(dtype)
    two = copy.deepcopy(one)
    ids = torch.randint(5, 300, (4, 8))
    # A large epsilon: AdamW would hide the gradients' scale otherwise.
    optimizers = [build_optimizer(model, 1e-2, 0.1) for model in (one, two)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["eps"] = 1e-2
    for _ in range(3):
        for model, optimizer in zip((one, two), optimizers, strict=True):
            optimizer.zero_grad()
            model(input_ids=ids, labels=torch.tensor([0, 1, 0, 1])).loss.backward()
            if model is one:
                clip_in_step(optimizer, max_norm)
            else:
                torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
