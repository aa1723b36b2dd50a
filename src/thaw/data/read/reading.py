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
    """Options of reading, each described in `conf/data/files.yaml`.

    Attributes:
        format: name of a format; None: found from the file's name and content.
        encoding: of text files.
        header: whether the first line names the columns; None: in tables it does, in column files
            it is found.
        columns: names of the columns of a table without a header.
        quoting: "csv", "backslash" or "none"; None: "csv", and lines that this would join are
            refused.
        reader: the user's own function, as "module.function".
        token_column: place of the words in a column file.
        tag_column: place of the tags in a column file; None: tags are not read.
        text: name of the column that a text becomes.
        spans: name of the column that entities become; None: entities are not asked for.
        tokens: name of the column of words in a table.
        tags: name of the column of tags in a table.
        scheme: of the tags, see `tag_schemes`.
        sentence: name of the column that numbers sentences, in a table with a word a row.
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
