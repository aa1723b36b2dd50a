"""How the files of a data set are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TableName = Literal["table", "csv", "tsv", "jsonl", "json", "parquet", "excel", "saved"]
TextName = Literal["fasttext", "folders", "text", "columns", "conllu"]
ToolName = Literal["brat", "prodigy", "doccano", "label_studio", "spacy_json", "spacy"]
FormatName = Literal[TableName, TextName, ToolName]
Quoting = Literal["csv", "backslash", "none"]


@dataclass(frozen=True)
class Reading:
    """Options of reading: those of `conf/data/files.yaml`, where each is described, and what a task
    asks for."""

    format: str | None = None
    encoding: str = "utf-8"
    header: bool | None = None
    columns: Sequence[str] | None = None
    quoting: str | None = None
    reader: str | None = None
    token_column: int = 0
    tag_column: int | None = -1
    text: str = "text"
    spans: str | None = None  # column that entities become; None: they are not asked for
    tokens: str = "tokens"
    tags: str = "tags"
    scheme: str | None = None
    sentence: str | None = None
    words: bool = False  # whether words with tags are asked for, as `task=ner` does
    # Whether annotations are used. In prediction they are not, and rejected ones are read too.
    annotated: bool = True
