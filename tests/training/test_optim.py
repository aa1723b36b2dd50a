import copy
import math
import shlex

import pytest
import torch
from hydra.utils import instantiate
from transformers import (
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    get_scheduler,
)

from helpers.runs import curve, metrics_of
from helpers.tiny import REPOSITORY, tiny_config
from thaw.cli.check import check, leave_unread, plain
from thaw.cli.compose import compose
from thaw.cli.conf import choices
from thaw.cli.watched_metric import require_watched
from thaw.encoder.freeze import HeadOnly
from thaw.errors import ThawError
from thaw.training.optim import build_optimizer, build_schedule, clip_in_step, decayed

pytestmark = pytest.mark.no_figures


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


SCHEDULES = {
    "linear": ("linear", {}),
    "cosine": ("cosine", {}),
    "cosine_with_restarts": ("cosine_with_restarts", {"num_cycles": 2}),
    "polynomial": ("polynomial", {"power": 2.0}),
    "inverse_sqrt": ("inverse_sqrt", {}),
    "constant": ("constant_with_warmup", {}),
}


def made_by(*words):
    """The optimizer and the schedule that a command line asks for, not made yet."""
    cfg = compose([*words, "run_dir=/tmp/nowhere"])
    return [instantiate(cfg[n], _convert_="all", _partial_=True) for n in ("optimizer", "schedule")]


@pytest.mark.parametrize("name", choices("schedule"))
def test_rates_equal_those_of_transformers_get_scheduler(name):
    if name == "own":
        return
    theirs, options = SCHEDULES[name]
    pairs = [torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.1) for _ in range(2)]
    ours = build_schedule(pairs[0], 20, 4, made_by(f"schedule={name}")[1])
    reference = get_scheduler(theirs, pairs[1], 4, 20, scheduler_specific_kwargs=options)
    for _ in range(20):
        assert ours.get_last_lr() == reference.get_last_lr()
        for optimizer, schedule in zip(pairs, (ours, reference), strict=True):
            optimizer.step()
            schedule.step()


def test_adafactor_is_that_of_transformers_trainer(tmp_path):
    model = BertForSequenceClassification(tiny_config())
    arguments = TrainingArguments(output_dir=str(tmp_path), optim="adafactor", use_cpu=True)
    _, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    optimizer = build_optimizer(model, 1e-3, 0.1, made=made_by("optimizer=adafactor")[0])
    assert {k: optimizer.defaults[k] for k in options if k != "lr"} == {
        k: v for k, v in options.items() if k != "lr"
    }
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (1e-3, 0.1),
        (1e-3, 0),
    ]


def test_a_class_of_ones_own_is_given_the_groups_and_what_is_typed():
    model = BertForSequenceClassification(tiny_config())
    made, _ = made_by(
        "optimizer=own", "optimizer._target_=torch.optim.SGD", "+optimizer.momentum=0.5"
    )
    optimizer = build_optimizer(model, 1e-3, 0.1, made=made)
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["momentum"] == 0.5
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "torch.optim.Rprop",
            r"torch\.optim\.rprop\.Rprop knows no weight decay: task.weight_decay=0",
        ),
        (
            "torch.optim.LBFGS",
            r"optimizer=torch\.optim\.lbfgs\.LBFGS: LBFGS doesn't support per-param",
        ),
    ],
)
def test_an_optimizer_that_cannot_do_it_is_refused(target, message):
    made, _ = made_by("optimizer=own", f"optimizer._target_={target}")
    with pytest.raises(ThawError, match=message):
        build_optimizer(BertForSequenceClassification(tiny_config()), 1e-3, 0.1, made=made)


@pytest.mark.parametrize(
    ("words", "steps", "warmup", "message"),
    [
        (
            ["torch.optim.lr_scheduler.CosineAnnealingLR"],
            9,
            2,
            "has no warm-up: task.warmup_steps=0",
        ),
        (["torch.optim.lr_scheduler.ReduceLROnPlateau"], 9, 0, "follows a metric"),
        (["torch.optim.lr_scheduler.StepLR"], 9, 0, "StepLR: .*step_size"),
        (
            ["transformers.get_linear_schedule_with_warmup"],
            math.inf,
            2,
            "schedule=constant with task",
        ),
        (
            ["transformers.get_constant_schedule_with_warmup"],
            math.inf,
            math.inf,
            "task.warmup_steps",
        ),
    ],
)
def test_a_schedule_that_cannot_do_it_is_refused(words, steps, warmup, message):
    _, made = made_by("schedule=own", f"schedule._target_={words[0]}")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ThawError, match=message):
        build_schedule(optimizer, steps, warmup, made)


def test_a_schedule_of_ones_own_is_given_the_steps():
    _, made = made_by(
        "schedule=own", "schedule._target_=torch.optim.lr_scheduler.CosineAnnealingLR"
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    assert build_schedule(optimizer, 9, 0, made).T_max == 9


def test_warm_up_may_be_a_number_of_steps(run):
    directory = run("task.warmup_steps=3", "trainer.max_epochs=1", "task.learning_rate=0.3")
    rows = [line for line in curve(directory) if any(k == "lr/all" and v for k, v in line)]
    rates = [float(dict(row)["lr/all"]) for row in rows]
    assert rates[:4] == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("+optimizer.lr=1", r"optimizer\.lr is set by thaw, of task\.learning_rate"),
        ("+schedule.num_warmup_steps=1", r"is set by thaw, of trainer.*task\.warmup_steps"),
        ("optimizer=own", r"optimizer=own needs optimizer\._target_="),
        ("schedule=own", r"schedule=own needs schedule\._target_="),
    ],
)
def test_what_is_thaws_or_missing_is_answered_before_training(run, word, message):
    with pytest.raises(ThawError, match=message):
        run(word)


@pytest.mark.parametrize(
    "callbacks", [[], ["callbacks=none"]], ids=["best checkpoint", "last weights"]
)
def test_a_schedule_free_run_validates_and_exports_the_averaged_weights(run, reviews, callbacks):
    paths = [f"data.{s}={reviews / 'validation.csv'}" for s in ("validation", "test")]
    metrics = metrics_of(
        run(
            *("optimizer=own", "optimizer._target_=schedulefree.AdamWScheduleFree"),
            *("schedule=constant", "data.path=null", f"data.train={reviews / 'train.csv'}"),
            *(*paths, *callbacks, "trainer.val_check_interval=1.0"),
        )
    )
    assert metrics["test/loss"] == pytest.approx(metrics["val/loss"], rel=1e-6)


def test_a_head_that_trains_with_the_encoder_may_be_schedule_free(run):
    """The head is fitted between two steps, to the averaged weights."""
    joint = ["task=setfit", "task.shots=8", "task.steps=6", "task.head=differentiable"]
    own = ["optimizer=own", "optimizer._target_=schedulefree.AdamWScheduleFree"]
    metrics = metrics_of(run(*joint, *own, "schedule=constant", "task.joint_ratio=0.5"))
    assert metrics["steps"] == 12


def test_every_command_of_the_page_on_training_composes():
    page = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("python train.py ")]
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line)[2:]
        cfg = compose([*words, "run_dir=/tmp/nowhere"])
        leave_unread(cfg, words)
        check(cfg)
        require_watched(plain(cfg))
