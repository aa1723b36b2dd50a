"""Every option with type, default and meaning: `python -m thaw.cli.reference > docs/options.md`.

Names, defaults and meanings come from `conf/`, where a comment says what an option means; types,
and meanings without a comment, from the constructors that options are for. Nothing is imported.
"""

import ast
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from thaw.cli.check import PLAIN
from thaw.cli.conf import conf_dir
from thaw.cli.static_signatures import NotFound, based_on, locate, module_of, signature
from thaw.cli.yaml_comments import File, Node, read

# The choice of a group whose file holds every option of it; others set some of them.
BASE = {"data": "files", "model": "minilm", "freeze": "none", "trainer": "default"}
GROUPS = (
    "task",
    "data",
    "model",
    "freeze",
    "trainer",
    "callbacks",
    "logger",
    "experiment",
    "hparams_search",
    "debug",
)
COMMANDS = ("predict", "evaluate", "export", "parameters")
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
INTRODUCTION = """# Options

`python train.py GROUP=CHOICE KEY=VALUE`. This page is written by
`python -m thaw.cli.reference > docs/options.md` from `conf/` and the constructors that options are
for. `${...}` is the value of another option.
`+KEY=VALUE` sets an argument that a class of another library takes and no file names, and Hydra has
options of its own (`--hydra-help`).
"""


@dataclass(frozen=True)
class Option:
    """What can be typed.

    Attributes:
        name: dotted.
        kind: its type.
        default: as written in `conf/`.
        meaning: a line.
    """

    name: str
    kind: str
    default: str
    meaning: str


def shown(hint: Any) -> str:
    """A type in words; nothing for what cannot be typed on a command line."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return "any"
    if hint in (None, type(None)):
        return "null"
    if origin is typing.Literal:
        return either("null" if a is None else str(a) for a in arguments)
    if origin is typing.Annotated:
        extras = [part for a in arguments[1:] for part in getattr(a, "metadata", None) or [a]]
        limits = [
            f"{sign} {limit}"
            for extra in extras
            for name, sign in BOUNDS.items()
            if (limit := getattr(extra, name, None)) is not None
        ]
        return " ".join([shown(arguments[0]), ", ".join(limits)]).strip()
    if origin in (typing.Union, types.UnionType):
        return either(map(shown, arguments))
    if hint in (str, int, float, bool):
        return hint.__name__
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "mapping"
    if isinstance(kind, type) and issubclass(kind, Iterable):
        inner = either(map(shown, arguments))
        return f"list of {inner}" if inner else ""
    return "path" if kind is Path else ""


def either(kinds: Iterable[str]) -> str:
    """Each of some types once, null last."""
    every = dict.fromkeys(part for kind in kinds for part in kind.split(" or ") if part)
    return " or ".join(sorted(every, key=lambda part: part == "null"))


def told(target: str) -> dict[str, str]:
    """What the docstrings of a class of thaw, and of its bases, say of their arguments."""
    try:
        module, node = locate(target)
    except NotFound:
        return {}
    said: dict[str, str] = {}
    queue = [(module, node)]
    while queue:
        module, node = queue.pop(0)
        if not module.name.startswith("thaw.") or not isinstance(
            node, (ast.ClassDef, ast.FunctionDef)
        ):
            continue
        said = arguments_of(ast.get_docstring(node) or "") | said
        queue += [based_on(module, base) for base in getattr(node, "bases", []) if based(base)]
    return said


def based(base: ast.expr) -> bool:
    """Whether a base class is one whose source can be found."""
    return not (isinstance(base, ast.Name) and base.id in ("object", "ABC", "Protocol"))


def arguments_of(docstring: str) -> dict[str, str]:
    """The `Args:` of a docstring, by name."""
    found: dict[str, str] = {}
    inside, name = False, ""
    for line in docstring.splitlines():
        if line and not line.startswith(" "):
            inside = line == "Args:"
        elif inside and line.startswith("    ") and line[4:5].strip():
            name, _, text = line.strip().partition(": ")
            found[name] = text
        elif inside and line.strip():
            found[name] += " " + line.strip()
    return found


def options_in(
    node: Node, path: str, targets: Sequence[str] = (), whole: Collection[str] = PLAIN
) -> Iterator[Option]:
    """The options below a key.

    Args:
        node: the key's.
        path: its dotted name.
        targets: constructors that it is for, where the file does not say.
        whole: names whose value may be a mapping, and is one option.
    """
    targets = [node.target] if node.target else targets
    for key, child in node.children.items():
        if key in ("_target_", "defaults"):
            continue
        name = f"{path}.{key}".lstrip(".")
        hints = [h for t in targets if (h := signature(t).hints.get(key, Any)) is not Any]
        kind = either(map(shown, [PLAIN[name]] if name in PLAIN else hints))
        if kind in ("", "null") and not child.children:
            kind = guessed(child.text)
        docstrings = (told(target).get(key, "") for target in targets)
        meaning = child.comment or next(filter(None, docstrings), "")
        if child.target or (child.block and child.children and name not in whole):
            if meaning:
                default = "as below" if len(child.children) > 1 else str(child.target)
                yield Option(name, "mapping or null", default, meaning)
            yield from options_in(child, name, whole=whole)
        else:
            yield Option(name, kind, child.text or "null", meaning)


def guessed(text: str) -> str:
    """The type of a value, where nothing else says it."""
    kind = type(yaml.safe_load(text or "null")).__name__
    return {"NoneType": "any", "dict": "mapping", "list": "list"}.get(kind, kind)


def choices(group: str) -> dict[str, File]:
    """The files of a group by choice, the one with all options first."""
    paths = sorted((conf_dir() / group).rglob("*.yaml"))
    found = {p.relative_to(conf_dir() / group).with_suffix("").as_posix(): read(p) for p in paths}
    first = BASE.get(group, "")
    return dict(sorted(found.items(), key=lambda item: (item[0] != first, item[0])))


def readers() -> dict[str, str]:
    """What reads the options of data: the constructor of each task."""
    return {name: file.tree.children["data"].target or "" for name, file in choices("task").items()}


def group_options(group: str) -> dict[str, list[Option]]:
    """The options of a group by the choice that has them."""
    found: dict[str, list[Option]] = {}
    first: set[str] = set()
    for name, file in choices(group).items():
        targets = list(readers().values()) if group == "data" else []
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


def options() -> list[Option]:
    """Every option; one that two choices of a group have, such as two tasks, twice."""
    tables = [group_options(group) for group in GROUPS]
    return [*run_options(), *(o for table in tables for part in table.values() for o in part)]


def run_options() -> list[Option]:
    """The options of `conf/train.yaml` itself."""
    return list(options_in(read(conf_dir() / "train.yaml").tree, ""))


def sets(file: File, group: str) -> list[str]:
    """The options of other groups that a choice sets, as they would be typed."""

    def leaves(node: Node, path: str) -> Iterator[str]:
        if not node.children and not node.text.startswith("${"):
            yield f"{path}={node.text}"
        for key, child in node.children.items():
            if key != "_target_":
                yield from leaves(child, f"{path}.{key}")

    tops = {k: n for k, n in file.tree.children.items() if k not in (group, "defaults", "hydra")}
    return [word for key, node in tops.items() for word in leaves(node, key)]


def table(rows: Sequence[Option]) -> list[str]:
    """A Markdown table of options."""
    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        cells = [f"`{row.name}`", row.kind, f"`{row.default}`", row.meaning]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]


def data_table(rows: Sequence[Option]) -> list[str]:
    """The options of data, by the tasks that read them."""
    read_by: dict[str, list[str]] = {}
    for task, target in readers().items():
        for key in signature(target).parameters:
            read_by.setdefault(f"data.{key}", []).append(task)
    everyone = tuple(readers())
    tables: dict[tuple[str, ...], list[Option]] = {}
    for row in rows:
        tables.setdefault(tuple(read_by.get(row.name, everyone)), []).append(row)
    lines = []
    for tasks in sorted(tables, key=len, reverse=True):
        who = "Every task" if tasks == everyone else f"task={', '.join(tasks)}"
        lines += [f"{who}:", "", *table(tables[tasks])]
    return lines


def document() -> str:
    """All of `docs/options.md`."""
    lines = [INTRODUCTION, "## The run", "", *table(run_options())]
    for group in GROUPS:
        found, files = group_options(group), choices(group)
        lines += [f"## {group}", "", f"| `{group}=` | |", "|---|---|"]
        lines += [f"| `{name}` | {file.header} |" for name, file in files.items()]
        lines.append("")
        for name, rows in found.items():
            if not rows:
                continue
            lines += [f"### {group}={name}", ""] if len(found) > 1 else []
            lines += data_table(rows) if group == "data" else table(rows)
            if group == "task":
                words = ", ".join(f"`{word}`" for word in sets(files[name], group))
                lines += [f"It sets {words}.", ""]
    lines += ["## Commands", ""]
    for command in COMMANDS:
        usage = module_of(f"thaw.{command}").names["USAGE"]
        lines += ["```", ast.literal_eval(typing.cast(ast.expr, usage)), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(document(), end="")
