"""The page `docs/options.md`: every option with its type, default and meaning."""

import importlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from jinja2 import Template

from thaw.cli.conf import conf_dir
from thaw.cli.reference.constructors import fragment
from thaw.cli.reference.schema_file import BASE, COMMAND, PLAIN, choices, data_targets, definitions
from thaw.cli.reference.yaml_comments import File, Node, read
from thaw.cli.schema import describe, join_types

GROUPS = (
    *("task", "data", "model", "freeze", "optimizer", "schedule"),
    *("trainer", "callbacks", "logger"),
    *("experiment", "hparams_search", "debug"),
)
COMMANDS = ("predict", "evaluate", "export", "push", "label_errors", "parameters", "dashboard")


@dataclass(frozen=True)
class Option:
    """An option that can be typed."""

    name: str  # dotted path
    kind: str  # type in words
    default: str  # value as written in `conf/`
    meaning: str  # a line of explanation


def options_in(
    node: Node, path: str, targets: Sequence[str] = (), whole: Collection[str] = PLAIN
) -> Iterator[Option]:
    """Yields the options below a key, for the constructor that its file or else `targets` name. The
    value of a name in `whole` may be a mapping, and is one option."""
    targets = [node.target] if node.target else targets
    for key, child in node.children.items():
        if key in ("_target_", "defaults"):
            continue
        name = f"{path}.{key}".lstrip(".")
        known = [definitions()[target]["properties"].get(key, {}) for target in targets]
        kind = join_types(map(describe, [fragment(PLAIN[name])] if name in PLAIN else known))
        if kind in ("", "null") and not child.children:
            kind = guess_type(child.text)
        documented = (option.get("description", "") for option in known)
        meaning = child.comment or next(filter(None, documented), "")
        if child.target or (child.block and child.children and name not in whole):
            if meaning:
                default = "as below" if len(child.children) > 1 else str(child.target)
                yield Option(name, "mapping or null", default, meaning)
            yield from options_in(child, name, whole=whole)
        else:
            yield Option(name, kind, child.text or "null", meaning)


def guess_type(text: str) -> str:
    """Returns the type of a value as it is written, where nothing else says it."""
    kind = type(yaml.safe_load(text or "null")).__name__
    return {"NoneType": "any", "dict": "mapping", "list": "list"}.get(kind, kind)


def options_by_choice(group: str) -> dict[str, list[Option]]:
    """Returns the options of a group by the choice that has them."""
    found: dict[str, list[Option]] = {}
    first: set[str] = set()
    for name, file in choices(group).items():
        targets = list(data_targets().values()) if group == "data" else []
        if file.everywhere:
            mine = [k for k in file.tree.children if k == group or k not in (*GROUPS, *PLAIN)]
            mine = [k for k in mine if k not in ("defaults", "hydra")]
            found[name] = [o for k in mine for o in options_in(file.tree.children[k], k)]
        else:
            rows = options_in(file.tree, group, targets, {*PLAIN, *first})
            found[name] = [row for row in rows if row.name not in first]
        if name == BASE.get(group):
            first = {row.name for row in found[name]}  # others give values to these
    return found


def run_options() -> list[Option]:
    """Returns the options of `conf/train.yaml` itself."""
    return list(options_in(read(conf_dir() / "train.yaml").tree, ""))


def other_groups(file: File, group: str) -> list[str]:
    """Returns the options of other groups that a choice sets, as they would be typed."""

    def leaves(node: Node, path: str) -> Iterator[str]:
        if not node.children and not node.text.startswith("${"):
            yield f"{path}={node.text}"
        for key, child in node.children.items():
            if key != "_target_":
                yield from leaves(child, f"{path}.{key}")

    tops = {k: n for k, n in file.tree.children.items() if k not in (group, "defaults", "hydra")}
    return [override for key, node in tops.items() for override in leaves(node, key)]


def by_readers(rows: Sequence[Option]) -> dict[str, list[Option]]:
    """Returns the options of data by the tasks that read them, those of every task first."""
    read_by: dict[str, list[str]] = {}
    for task, target in data_targets().items():
        for key in definitions()[target]["properties"]:
            read_by.setdefault(f"data.{key}", []).append(task)
    everyone = list(data_targets())
    tables: dict[str, list[Option]] = {}
    for row in sorted(rows, key=lambda row: -len(read_by.get(row.name, everyone))):
        tasks = read_by.get(row.name, everyone)
        who = "Every task" if tasks == everyone else f"task={', '.join(tasks)}"
        tables.setdefault(who, []).append(row)
    return tables


def page_text() -> str:
    """Returns all of `docs/options.md`."""
    template = (Path(__file__).parent / "options.md.jinja").read_text(encoding="utf-8")
    made = Template(template, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return made.render(
        command=COMMAND,
        run=run_options(),
        groups={group: options_by_choice(group) for group in GROUPS},
        choices=choices,
        by_readers=by_readers,
        other_groups=other_groups,
        usages=[importlib.import_module(f"thaw.{name}").USAGE for name in COMMANDS],
    )
