"""Reads files of `conf/` with their comments, which YAML's readers leave out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml


@dataclass
class File:
    """A file of `conf/`."""

    header: str  # comment at its top
    everywhere: bool  # whether its keys are those of the whole config
    tree: "Node"  # its keys


@dataclass
class Node:
    """A key of a file, or its root."""

    text: str = ""  # value as written
    comment: str = ""  # comment beside it
    children: dict[str, "Node"] = field(default_factory=dict)  # keys of a mapping
    block: bool = False  # whether these stand on lines of their own

    @property
    def target(self) -> str | None:
        """Dotted name of the constructor that the mapping is for; None if the user gives it."""
        node = self.children.get("_target_")
        return node.text if node and node.text != "???" else None


def read(path: Path) -> File:
    """Returns a file of `conf/` with its comments."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    top = [line[1:].strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    everywhere = any(line.startswith("@package _global_") for line in top)
    not_words = ("@package", "yaml-language-server:")
    header = " ".join(line for line in top if line and not line.startswith(not_words))
    root = yaml.compose(text, yaml.SafeLoader)
    return File(header, everywhere, node_of(root, text, lines))


def node_of(found: Any, text: str, lines: Sequence[str], after: Any = None) -> Node:
    """Returns a node of PyYAML, None of an empty file, with its comments; its key ends at
    `after`."""
    if found is None:
        return Node()
    block = isinstance(found, yaml.CollectionNode) and not found.flow_style
    written = text[found.start_mark.index : found.end_mark.index]
    if block and isinstance(found, yaml.SequenceNode):
        items = (text[i.start_mark.index : i.end_mark.index] for i in found.value)
        written = f"[{', '.join(items)}]"
    end = after if block else found.end_mark
    out = Node(" ".join(written.split()), "" if end is None else comment_at(lines, end), {}, block)
    if isinstance(found, yaml.MappingNode):
        for key, value in found.value:
            out.children[key.value] = node_of(value, text, lines, key.end_mark)
    return out


def comment_at(lines: Sequence[str], mark: Any) -> str:
    """Returns the comment right of a mark, with the lines below that continue it."""
    rest = lines[mark.line][mark.column :].lstrip(": ") if mark.line < len(lines) else ""
    if not rest.startswith("#"):
        return ""
    column = len(lines[mark.line]) - len(rest)
    said = [rest]
    for line in lines[mark.line + 1 :]:
        if not line.lstrip().startswith("#") or len(line) - len(line.lstrip()) != column:
            break
        said.append(line.lstrip())
    return " ".join(line.lstrip("# ") for line in said)
