"""Options of other tools are answered with those of thaw, and the page has the same table."""

import importlib
import re

import pytest

from helpers.tiny import REPOSITORY
from thaw.cli.check import check, leave_unread
from thaw.cli.coming_from import NOT_NEEDED, coming_from
from thaw.cli.compose import compose, refuse_options_of_others
from thaw.errors import ThawError

ROWS = coming_from()


def answer(*words):
    with pytest.raises(ThawError) as error:
        compose(list(words))
    return str(error.value)


@pytest.mark.parametrize("row", ROWS, ids=[row.there for row in ROWS])
def test_an_answer_is_accepted_when_it_is_typed(row, tmp_path):
    if row.here.startswith(NOT_NEEDED):
        return
    if row.here.startswith("python -m "):
        module, *words = row.here.removeprefix("python -m ").split()
        known = importlib.import_module(module).KNOWN
        assert {word.partition("=")[0] for word in words} <= set(known)
        return
    cfg = compose([*row.here.split(), f"run_dir={tmp_path}"])
    leave_unread(cfg, row.here.split())
    check(cfg, ("task", "trainer", "callbacks", "optimizer", "schedule", "model"))


@pytest.mark.parametrize("row", ROWS, ids=[row.there for row in ROWS])
def test_what_another_tool_calls_it_is_answered(row):
    if row.key == "ckpt_path":
        return  # answered with the run itself, see test_resume.py
    said = answer(row.there if row.value else f"{row.key}=x")
    assert f"{row.there} of {row.tool} is " in said or not row.value
    reason = row.here.removeprefix(NOT_NEEDED)
    assert (f"is `{row.here}` here" if reason == row.here else f"not needed here{reason}.") in said


@pytest.mark.parametrize(
    ("typed", "here"),
    [
        ("num_train_epochs=5", "trainer.max_epochs=5"),
        ("per_device_train_batch_size=8", "data.batch_size=8"),
        ("output_dir=x", "hydra.run.dir=x"),
        ("output_dir=my dir", "\"hydra.run.dir='my dir'\""),
        ("adam_beta2=0.95", "optimizer.betas=[0.9,0.95]"),
        ("num_samples=8", "task=setfit task.shots=8"),
        ("metric_for_best_model=eval_f1", "monitor=val/f1"),
        ("gradient_checkpointing=False", "model.gradient_checkpointing=False"),
        ("train=a.csv", "data=files data.train=a.csv"),
        ("train=false", "python -m thaw.evaluate run=outputs/2026-01-01/12-00-00"),
        ("model_name_or_path=my/own", "model.checkpoint=my/own"),
    ],
)
def test_an_answer_has_the_value_that_was_typed(typed, here):
    assert f"{typed} of " in (said := answer(typed))
    assert f"is `{here}` here. " in said


def test_a_translated_value_is_answered_first_and_the_others_are_named():
    said = answer("evaluation_strategy=steps")
    assert (
        "evaluation_strategy=steps of transformers.Trainer is `trainer.val_check_interval=500`"
        in said
    )
    assert "; evaluation_strategy=epoch is `trainer.val_check_interval=1.0`" in said
    assert "fp16=true of transformers.Trainer is `trainer.precision=16-mixed`" in answer("fp16=1")


def test_a_choice_that_thaw_does_not_have_is_answered_with_those_it_has():
    assert "is `schedule=CHOICE` here, of constant, cosine" in answer("lr_scheduler_type=cyclic")


def test_all_wrong_options_are_answered_at_once():
    said = answer(
        *("num_train_epochs=5", "freeze=last", "freeze.blocks=2", "fp16=true", "task=sequnce"),
        *("task.lerning_rate=1", "+report_to=wandb"),
    )
    for part in ("max_epochs=5", "16-mixed", "mean sequence?", "mean task.learning_rate", "wandb`"):
        assert part in said
    assert len(said.splitlines()) == 5, said  # freeze.blocks is right
    assert said.count("docs/coming-from.md") == 1


@pytest.mark.parametrize(
    ("typed", "here"),
    [
        ("data=/tmp/x/clean.csv", "data=files data.train=/tmp/x/clean.csv"),
        ("data=clean.csv", "data=files data.train=clean.csv"),
        ("data=~/a b.csv", "data=files \"data.train='~/a b.csv'\""),
        ("data=owner/name", "data=hub data.path=owner/name"),
        ("model=owner/name-v1.5", "model.checkpoint=owner/name-v1.5"),
        ("model=./model", "model.checkpoint=./model"),
    ],
)
def test_a_path_or_a_name_on_the_hub_as_a_choice_is_answered_with_its_option(typed, here):
    assert f"write `{here}`." in answer(typed)


def test_a_blank_in_place_of_the_equals_sign_is_answered_with_it():
    assert answer("data.batch_size", "8") == "data.batch_size 8: write `data.batch_size=8`."
    assert "is `trainer.max_epochs=5` here" in answer("num_train_epochs", "5")


@pytest.mark.parametrize("word", ["+fp16=true", "--fp16", "--num-train-epochs", "+report_to=x"])
def test_new_keys_and_flags_are_answered_too(word):
    with pytest.raises(ThawError, match=f"there is no option {re.escape(word)}. .* is `.*` here"):
        refuse_options_of_others([word])


def test_a_flag_has_the_value_that_follows_it():
    assert "is `trainer.max_epochs=5` here" in answer("--num_train_epochs", "5", "seed=1")


def test_arguments_of_the_users_own_classes_are_left_alone():
    refuse_options_of_others(["+optimizer.warmup_steps=5", "+task.max_length=5", "--multirun"])


def test_the_page_has_the_table():
    page = (REPOSITORY / "docs" / "coming-from.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{row.there}` | {row.answer} |" for row in ROWS]
