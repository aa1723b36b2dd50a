"""One way to read `key=value` words, for overrides and for the arguments of all commands."""

import pytest

from thaw.cli.overrides import (
    override_words,
    quote,
    read_arguments,
    replace,
    split_override,
    value_of,
)
from thaw.errors import ThawError

USAGE = "usage: command run=<directory>"
KNOWN = {"run": None, "output": "-"}


def test_an_override_has_a_key_and_a_value():
    assert split_override("+task.lr=1=2") == ("task.lr", "1=2")
    assert split_override("~data.label") == ("data.label", "")


def test_a_quoted_value_is_read_back():
    path = "/a b/it's, {here}"
    assert value_of(f"resume={quote(path)}") == path


def test_an_override_replaces_that_of_the_same_key():
    assert replace(["seed=1", "+a.b=2"], ["a.b=3"]) == ["seed=1", "a.b=3"]


def test_a_sweep_is_one_job_after_another_and_of_a_searched_range_its_start():
    words = ["-m", "freeze=none,last", "seed=7", "x=tag(log, interval(1e-5, 1e-3))", "y=range(3,9)"]
    rest = ["seed=7", "x=1e-05", "y=3"]
    assert override_words(words) == ["freeze=none", *rest]
    assert override_words(words, 1) == ["freeze=last", *rest[:2], "y=4"]
    assert override_words(words, 2)[0] == "freeze=last"


def test_arguments_have_defaults_and_overrides_are_passed_on():
    given = read_arguments(["run=a", "+data.x=1", "data=files"], KNOWN, USAGE, groups=("data",))
    assert given == ({"run": "a", "output": "-"}, ["+data.x=1", "data=files"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run"], "got 'run', expected key=value"),
        (["run=a", "outptu=b"], r"no option outptu\. Did you mean output\?"),
        (["output=b"], "run must be given"),
        (["run=a", "data.x=1"], "no option data.x"),
    ],
)
def test_a_mistake_is_answered_with_the_usage(argv, message):
    with pytest.raises(ThawError, match=f"{message}[^$]*{USAGE}"):
        read_arguments(argv, KNOWN, USAGE)


def test_help_ends_the_command(capsys):
    with pytest.raises(SystemExit):
        read_arguments(["--help"], KNOWN, USAGE)
    assert capsys.readouterr().out == f"{USAGE}\n"
