"""CoNLL-U and CoNLL-U Plus files (universaldependencies.org/format), through `conllu`."""

import logging
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from thaw.data.read.entities.tag_schemes import is_tag
from thaw.data.read.reading import Reading
from thaw.data.read.rows import Reader, Remarks, Rows
from thaw.data.read.text_files import open_lines
from thaw.errors import ThawError

log = logging.getLogger(__name__)

HEAD = 100  # sentences that tell where the tags are


class Lines:
    """Lines of a file, counted, with the `read` that conllu asks files for."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.lines = open_lines(path, encoding)
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            self.number += 1
            yield line

    def read(self) -> str:
        """Returns all lines."""
        return "".join(self)


def conllu_rows(path: Path, part: str | None, how: Reading) -> Reader:
    """Yields sentences of a CoNLL-U file: words, without the ranges and empty nodes, and tags
    under the key of MISC, or in the column, that `part` names, by default the only one that
    holds tags."""
    sentences = Rows(word_fields(path, how.encoding))
    head = list(islice(sentences, HEAD))
    if not head:
        raise ThawError(f"{path} has no sentence.")
    key = None
    if how.tag_column is not None:
        key = part or tag_key(path, [fields for _, fields in head])
        log.info("%s: read as format=conllu, tags from %s", path, key)
    for words, fields in chain(head, sentences):
        row: dict[str, Any] = {"tokens": words}
        if key is not None:
            row["tags"] = [field.get(key, "O") for field in fields]
        yield row
    return sentences.remarks


def word_fields(path: Path, encoding: str) -> Reader:
    """Yields words, and their fields with those of MISC, of each sentence."""
    import conllu

    lines = Lines(path, encoding)
    others = 0
    try:
        # conllu asks for `read` alone of all that a file has.
        for sentence in conllu.parse_incr(lines):  # type: ignore[arg-type]
            words = [token for token in sentence if isinstance(token["id"], int)]
            others += len(sentence) - len(words)
            if not words:
                continue
            fields = [
                {k: v for k, v in token.items() if isinstance(v, str)} | (token.get("misc") or {})
                for token in words
            ]
            yield [token["form"] for token in words], fields
    except (conllu.exceptions.ParseException, KeyError) as error:
        raise ThawError(
            f"{path}: the sentence that ends in line {lines.number} is no CoNLL-U: {error} "
            "data.format=columns reads a word a line with data.token_column and data.tag_column."
        ) from error
    return Remarks(parts={"lines of ranges and empty nodes": others})


def tag_key(path: Path, head: list[list[dict[str, str]]]) -> str:
    """Returns the only field that holds tags of entities in the first sentences."""
    found = [
        key
        for key in dict.fromkeys(k for fields in head for field in fields for k in field)
        if all(f.get(key, "O") == "O" or is_tag(str(f[key])) for fields in head for f in fields)
        and any(key in f for fields in head for f in fields)
    ]
    if len(found) == 1:
        return found[0]
    there = ", ".join(sorted({k for fields in head for field in fields for k in field}))
    if found:
        raise ThawError(
            f"{path} has tags under {' and '.join(found)}: name one behind a colon, such as "
            f"data.train={path.name}:{found[0]}."
        )
    raise ThawError(
        f"{path} is CoNLL-U, and none of its fields ({there}) holds tags of entities such as "
        "B-PER. A column of bare types is read with data.format=columns data.scheme=io "
        "data.token_column=1 data.tag_column=<column>."
    )
