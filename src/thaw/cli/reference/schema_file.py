"""The JSON Schema of every option, `conf/schema.json`.

Names and meanings come from `conf/`, where a comment says what an option means; types, and meanings
without a comment, from the constructors that options are for.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt

from thaw.cli.check import GIVEN
from thaw.cli.conf import conf_dir
from thaw.cli.reference.constructors import definition_of, fragment
from thaw.cli.reference.yaml_comments import File, Node, read
from thaw.cli.schema import fits

COMMAND = "python -m thaw.cli.reference"
# The choice of a group whose file holds every option of it; others set some of them.
BASE = {"data": "files", "model": "minilm", "freeze": "none", "trainer": "default"}
# Options that no constructor takes, with their types.
PLAIN: dict[str, Any] = {
    "seed": NonNegativeInt,
    "monitor": str,
    "monitor_mode": Literal["max", "min"],
    "resume": str | None,
    "run_dir": str,
    "program": str,
    "model.name": str,
    "model.checkpoint": str | Mapping[str, Any],
    "model.revision": str | None,
    "model.learning_rate": NonNegativeFloat,
    "model.mlm_learning_rate": NonNegativeFloat,
    "model.gradient_checkpointing": bool,
    "adapt.pretrained": bool,
    "adapt.directory": str,
    "adapt.pretrain": Sequence[str],
    "adapt.head": Sequence[str] | None,
}
WIDTH = 100  # of a line of the file
INCLUDED = re.compile(r"(?:^\[|, )/(\w+)@(\w+)(?=[,\]])")  # in a file's defaults
INTERPOLATION = {"type": "string", "pattern": r"\$\{|^\?\?\?$"}


@cache
def choices(group: str) -> dict[str, File]:
    """Returns the files of a group by choice, the one with all options first."""
    paths = sorted((conf_dir() / group).rglob("*.yaml"))
    names = [p.relative_to(conf_dir() / group).with_suffix("").as_posix() for p in paths]
    first = BASE.get(group, "")
    found = dict(zip(names, map(read_choice, paths), strict=True))
    return dict(sorted(found.items(), key=lambda item: (item[0] != first, item[0])))


def read_choice(path: Path) -> File:
    """Returns a file of a group, with the options that its defaults include (`/optimizer@task`)."""
    file = read(path)
    defaults = file.tree.children.get("defaults", Node()).text
    for name, key in INCLUDED.findall(defaults):
        shared, node = read(conf_dir() / f"{name}.yaml").tree, file.tree.children[key]
        for option, own in node.children.items():
            if not own.comment and option in shared.children:
                node.children[option] = replace(own, comment=shared.children[option].comment)
        node.children = shared.children | node.children
    return file


def data_targets() -> dict[str, str]:
    """Returns the constructor that reads the options of data, by task."""
    return {name: file.tree.children["data"].target or "" for name, file in choices("task").items()}


def nodes_with_targets(node: Node) -> Iterator[Node]:
    """Yields the node and those below it that name a constructor."""
    if node.target:
        yield node
    for child in node.children.values():
        yield from nodes_with_targets(child)


@cache
def definitions() -> dict[str, dict[str, Any]]:
    """Returns the JSON Schema of each constructor that `conf/` names, with the comments there."""
    found: dict[str, dict[str, Any]] = {}
    data = choices("data")[BASE["data"]].tree
    groups = [p.name for p in sorted(conf_dir().iterdir()) if p.is_dir() and p.name != "hydra"]
    for file in (file for group in groups for file in choices(group).values()):
        for node in nodes_with_targets(file.tree):
            target = str(node.target)
            takes = found.setdefault(target, definition_of(target))
            options = takes["properties"]
            comments = node.children | (data.children if target in data_targets().values() else {})
            for key, child in comments.items():
                if child.comment and (key in options or takes["additionalProperties"]):
                    options.setdefault(key, {})["description"] = child.comment
    return found


def written(option: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of an option in a file, where it may be an interpolation too."""
    if fits("${", option):
        return option
    about = {key: option[key] for key in ("description",) if key in option}
    parts = option.get("anyOf", [{k: v for k, v in option.items() if k not in about}])
    return about | {"anyOf": [*parts, {"$ref": "#/definitions/interpolation"}]}


def plain_options(prefix: str, node: Node) -> dict[str, Any]:
    """Returns the options below a key that no constructor takes: `prefix` begins their names in
    `PLAIN`."""
    found = {}
    for name, hint in PLAIN.items():
        if name.startswith(prefix) and "." not in (key := name[len(prefix) :]):
            comment = node.children[key].comment if key in node.children else ""
            found[key] = written(fragment(hint)) | ({"description": comment} if comment else {})
    return found


def group_options(group: str) -> dict[str, Any]:
    """Returns the options of a group, of all its choices together, as references."""
    found: dict[str, Any] = {}
    for file in choices(group).values():
        node = file.tree.children.get(group, Node()) if file.everywhere else file.tree
        targets = list(data_targets().values()) if group == "data" else [node.target]
        for target in filter(None, targets):
            for key in definitions()[target]["properties"].keys() - GIVEN.get(group, set()):
                reference = f"#/definitions/{target}/properties/{key}"
                found.setdefault(key, {"$ref": reference})
        for key, child in node.children.items():
            if child.target:
                parts = [{"$ref": f"#/definitions/{child.target}"}, {"type": ["null", "boolean"]}]
                about = {"description": child.comment} if child.comment else {}
                found[key] = found.get(key, {}) | about | {"anyOf": parts}
    return {"properties": dict(sorted(found.items()))}


def schema_text() -> str:
    """Returns all of `conf/schema.json`."""
    groups = ("task", "data", "freeze", "trainer", "callbacks", "logger")
    adapt = choices("experiment")["chapter/adapt"].tree.children["adapt"]
    model = choices("model")[BASE["model"]].tree
    whole = read(conf_dir() / "train.yaml").tree
    model = replace(model, children=whole.children["model"].children | model.children)
    run = plain_options("", whole)
    parts = {
        "interpolation": INTERPOLATION,
        "model": {"properties": plain_options("model.", model)},
        "adapt": {"properties": plain_options("adapt.", adapt)},
        **{group: group_options(group) for group in groups},
    }
    references = {name: {"$ref": f"#/definitions/{name}"} for name in (*groups, "model", "adapt")}
    for target, found in definitions().items():
        options = {key: written(option) for key, option in found["properties"].items()}
        parts[target] = found | {"properties": options}
    everything = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": f"Written by `{COMMAND}`.",
        "x-lightning": version("lightning"),
        "properties": run | references,
        "definitions": parts,
    }
    return short_lines(everything) + "\n"


def short_lines(node: Any, indent: str = "") -> str:
    """Returns JSON with each mapping on a line of its own that fits, so that changes are read."""
    line = json.dumps(node, ensure_ascii=False)
    if not isinstance(node, dict) or len(indent) + len(line) <= WIDTH:
        return line
    inner = f"{indent} "
    rows = [f"{inner}{json.dumps(key)}: {short_lines(node[key], inner)}" for key in node]
    return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
