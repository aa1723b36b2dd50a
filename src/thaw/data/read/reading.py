"""How the files of a data set are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FormatName = Literal[
    "table",
    "csv",
    "tsv",
    "jsonl",
    "json",
    "parquet",
    "excel",
    "saved",
    "fasttext",
    "folders",
    "text",
    "columns",
    "conllu",
    "brat",
    "prodigy",
    "doccano",
    "label_studio",
    "spacy_json",
    "spacy",
]
Quoting = Literal["csv", "backslash", "none"]


@dataclass(frozen=True)
class Reading:
    """Options of reading: those of `conf/data/files.yaml`, where each is described, and what a task
    asks for.

    Attributes:
        spans: name of the column that entities become; None: entities are not asked for.
        words: whether words with tags are asked for, as `task=ner` does.
        annotated: whether annotations are used. Where they are not, as in prediction, rejected ones
            are read too.
    """

    format: str | None = None
    encoding: str = "utf-8"
    header: bool | None = None
    columns: Sequence[str] | None = None
    quoting: str | None = None
    reader: str | None = None
    token_column: int = 0
    tag_column: int | None = -1
    text: str = "text"
    spans: str | None = None
    tokens: str = "tokens"
    tags: str = "tags"
    scheme: str | None = None
    sentence: str | None = None
    words: bool = False
    annotated: bool = True
