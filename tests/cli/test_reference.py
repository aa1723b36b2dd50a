"""docs/options.md is what the code says, and says it of every option."""

import pytest

from helpers.tiny import REPOSITORY
from thaw.__main__ import COMMANDS
from thaw.cli.compose import compose, keys
from thaw.cli.conf import choices, conf_dir
from thaw.cli.reference.constructors import fragment
from thaw.cli.reference.page import GROUPS, options_by_choice, page_text, run_options
from thaw.cli.reference.schema_file import COMMAND, schema_text
from thaw.cli.reference.yaml_comments import read
from thaw.cli.schema import definition

TABLES = [options_by_choice(group) for group in GROUPS]
OPTIONS = [*run_options(), *(o for table in TABLES for part in table.values() for o in part)]
NAMES = {option.name for option in OPTIONS}


WRITE = f"conf/ or a constructor has changed: write both files again with `{COMMAND}`"


def test_the_page_is_up_to_date():
    page = (REPOSITORY / "docs" / "options.md").read_text(encoding="utf-8")
    assert page == page_text(), WRITE


def test_the_page_shows_how_every_command_is_typed():
    page = page_text()
    others = [name for name in COMMANDS if name != "train"]
    assert [m for m in others if f"usage: python -m thaw.{m} " not in page] == []


def test_the_schema_is_up_to_date():
    assert (conf_dir() / "schema.json").read_text(encoding="utf-8") == schema_text(), WRITE


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_a_type_a_default_and_a_meaning(option):
    assert option.kind
    assert option.default
    assert option.meaning, f"{option.name}: a comment beside it in conf/ says what it means"


@pytest.mark.parametrize("task", choices("task"))
def test_the_page_has_what_help_shows(task):
    """`--help` prints the composed config."""
    shown_keys = set(keys(compose([f"task={task}", "run_dir=."])))
    inner = {key for key in shown_keys if any(name.startswith(f"{key}.") for name in NAMES)}
    values = {key for key in shown_keys if key.startswith(("data.path.", "model.checkpoint."))}
    made = {key for key in shown_keys if key.endswith("_target_")}
    # What a task hands to its data under the same name, such as task.pairs.
    handed = {f"data.{key[5:]}" for key in shown_keys if key.startswith("task.")}
    assert shown_keys - NAMES - inner - values - made - handed == set()


def test_arguments_that_no_file_names_are_given_by_the_code():
    from thaw.cli.check import GIVEN, plain, targets

    cfg = compose(["run_dir=."])
    for path, node in targets(plain(cfg)):
        if node["_target_"].startswith("thaw.") and path in ("task", "freeze"):
            assert set(definition(node["_target_"])["properties"]) - set(node) <= GIVEN.get(
                path, set()
            )


def test_a_comment_continues_below_and_ends_at_the_next_key(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "# What it is.\n"
        'mark: "#"      # a hash,\n'
        "               # and more\n"
        "inner:         # of two\n"
        "  list: [1, 2]\n"
        "# of others\n"
        "none: null     # nothing\n"
    )
    file = read(path)
    assert file.header == "What it is."
    tree = file.tree.children
    assert (tree["mark"].text, tree["mark"].comment) == ('"#"', "a hash, and more")
    assert tree["inner"].comment == "of two"
    assert (tree["inner"].children["list"].text, tree["inner"].children["list"].comment) == (
        "[1, 2]",
        "",
    )
    assert tree["none"].comment == "nothing"


def test_a_union_is_the_same_in_either_order():
    # typing.Union caches: what `int | float` gives depends on what was imported before.
    assert fragment(int | float | None) == fragment(float | int | None)
