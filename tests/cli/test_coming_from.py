"""Options of other tools are answered with those of thaw, and the page has the same table."""

import importlib
import re

import pytest

from helpers.tiny import REPOSITORY
from thaw.cli.check import GIVEN, check, leave_unread
from thaw.cli.compose import compose
from thaw.cli.messages import coming_from, refuse_options_of_others
from thaw.errors import ThawError

ROWS = [(tool, *row) for tool, table in coming_from().items() for row in table.items()]


@pytest.mark.parametrize(("tool", "there", "here"), ROWS, ids=[row[1] for row in ROWS])
def test_an_answer_is_accepted_when_it_is_typed(tool, there, here, tmp_path):
    if here.startswith("python -m "):
        module, *words = here.removeprefix("python -m ").split()
        known = importlib.import_module(module).KNOWN
        assert {word.partition("=")[0] for word in words} <= set(known)
        return
    cfg = compose([*here.split(), f"run_dir={tmp_path}"])
    leave_unread(cfg, here.split())
    check(cfg, GIVEN, parts=("task", "trainer", "callbacks", "optimizer", "schedule", "model"))


@pytest.mark.parametrize(("tool", "there", "here"), ROWS, ids=[row[1] for row in ROWS])
def test_what_another_tool_calls_it_is_answered(tool, there, here):
    if there.startswith("ckpt_path="):
        return  # answered with the run itself, see test_resume.py
    with pytest.raises(ThawError) as error:
        compose([there if "=" in there else f"{there}=x"])
    assert f"{there} of " in str(error.value)
    assert f"is `{here}` here" in str(error.value)


@pytest.mark.parametrize("word", ["+fp16=true", "--fp16", "--num-train-epochs", "+report_to=x"])
def test_new_keys_and_flags_are_answered_too(word):
    with pytest.raises(ThawError, match=f"there is no option {re.escape(word)}. .* is `.*` here"):
        refuse_options_of_others([word])


def test_arguments_of_the_users_own_classes_are_left_alone():
    refuse_options_of_others(["+optimizer.warmup_steps=5", "+task.max_length=5", "--multirun"])


def test_the_page_has_the_table():
    page = (REPOSITORY / "docs" / "coming-from.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{there}` | `{here}` |" for _, there, here in ROWS]
