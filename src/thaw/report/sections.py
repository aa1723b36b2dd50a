"""Holds what a run found as tables and figures, which `report.html`, W&B and MLflow show.

This module does not import torch, because a sweep's report is written without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

ERRORS = 200  # most examples of errors that are shown
CHARACTERS = 1000  # most characters that are shown of a text
CLASSES = 20  # most classes of a matrix; of more, the largest confusions are listed


@dataclass(frozen=True)
class Table:
    """A table of texts and numbers.

    Attributes:
        title: heading of the table in the report, and its key in W&B.
        columns: names of the columns.
        rows: cells of each row, one for each column.
        note: sentence below the title.
        examples: whether the rows are texts to read rather than numbers.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    examples: bool = False

    def table(self) -> "Table":
        """Returns itself, as other sections return theirs."""
        return self


@dataclass(frozen=True)
class Counts:
    """A matrix of counts, such as a confusion matrix.

    Attributes:
        title: heading of the matrix in the report, and its key in W&B.
        down: what the rows stand for, such as "true".
        across: what the columns stand for, such as "predicted".
        rows: names of the rows.
        columns: names of the columns.
        counts: counts, (rows, columns).
    """

    kind: ClassVar[str] = "counts"
    title: str
    down: str
    across: str
    rows: Sequence[str]
    columns: Sequence[str]
    counts: Sequence[Sequence[int]]

    @property
    def square(self) -> bool:
        """Whether rows and columns have the same names, so that the diagonal counts what is
        right."""
        return list(self.rows) == list(self.columns)

    def table(self) -> Table:
        """Returns the counts as a table, with the names of the rows in the first column."""
        rows = [[name, *line] for name, line in zip(self.rows, self.counts, strict=True)]
        return Table(self.title, (self.down, *self.columns), rows)

    def confusions(self, limit: int = 50) -> Table:
        """Returns the cells off the diagonal as a table, the largest first."""
        pairs = [
            (name, other, self.counts[i][j])
            for i, name in enumerate(self.rows)
            for j, other in enumerate(self.columns)
            if i != j and self.counts[i][j]
        ]
        pairs.sort(key=lambda pair: -pair[2])
        note = f"The {limit} largest of {len(pairs)}." if len(pairs) > limit else ""
        return Table(self.title, (self.down, self.across, "texts"), pairs[:limit], note)


@dataclass(frozen=True)
class Piece:
    """A part of a sentence: an entity, or the text between two.

    Attributes:
        text: text of the part.
        label: type of the entity; "" for text between entities.
        kind: one of `thaw.data.entities.KINDS`, for an entity.
    """

    text: str
    label: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Sentences:
    """Sentences with their gold and their predicted entities.

    Attributes:
        title: heading of the section in the report, and its key in W&B.
        pairs: pieces of each sentence, once with the gold and once with the predicted entities.
        note: sentence below the title.
    """

    kind: ClassVar[str] = "sentences"
    title: str
    pairs: Sequence[tuple[Sequence[Piece], Sequence[Piece]]]
    note: str = ""

    def table(self) -> Table:
        """Returns the sentences as a table of text, with an entity as `[Oslo](LOC, missed)`."""
        rows = [["".join(map(piece_text, side)) for side in pair] for pair in self.pairs]
        return Table(self.title, ("gold", "predicted"), rows, self.note, examples=True)


def piece_text(piece: Piece) -> str:
    """Returns a piece as plain text."""
    return f"[{piece.text}]({piece.label}, {piece.kind})" if piece.label else piece.text


@dataclass(frozen=True)
class Image:
    """A figure; `thaw.report.figures.image` draws one.

    Attributes:
        title: heading of the section in the report.
        png: the figure as PNG, which is written as `file`; empty: there is none.
        panels: parts of the figure as SVG, which the report shows side by side where there is room,
            by their alternative text; empty: the report does not show it.
        note: sentence below the title.
    """

    kind: ClassVar[str] = "image"
    title: str
    png: bytes = b""
    panels: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def file(self) -> str:
        """Name of the PNG file in the run directory, and key in W&B."""
        return f"{self.title.replace(' ', '_')}.png"


Section = Table | Counts | Sentences | Image


@dataclass(frozen=True)
class Findings:
    """What the report of a finished run shows.

    Attributes:
        title: task and data of the run.
        facts: names and values that identify the run.
        headline: name and value of the run's main score; None if it has no metric.
        numbers: names and values of the time, steps and memory that the run took.
        scores: scores of the test, or of validation if there was no test.
        sections: the learning curve, what the task found, and what was understood of the data.
        trains: table of the parts of the model that trained.
        usage: purposes, each with the command or code that serves it.
        config: composed config as YAML.
        environment: versions of the libraries, and the machine.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    headline: tuple[str, float] | None
    numbers: Sequence[tuple[str, str]]
    scores: Sequence[Table]
    sections: Sequence[Section]
    trains: Table
    usage: Sequence[tuple[str, str]]
    config: str
    environment: Mapping[str, str] = field(default_factory=dict)


def cell_text(value: Any) -> str:
    """Returns a cell as text: numbers with four decimal places, lists with commas."""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def readable(value: str) -> str:
    """Returns a number of many digits with three of them, such as 0.000213; another value as it
    is."""
    try:
        return f"{float(value):.3g}" if len(value) > 8 else value
    except ValueError:
        return value


def shortened(text: str, characters: int = CHARACTERS) -> str:
    """Returns a text without its middle if it is longer than `characters`."""
    if len(text) <= characters:
        return text
    half = characters // 2
    return f"{text[:half]} […{len(text) - 2 * half:,} characters…] {text[-half:]}"


def pieces(text: str, marks: Sequence[tuple[int, int, str, str]]) -> list[Piece]:
    """Returns a sentence as entities and the texts between them, each shortened to 240 characters.

    Args:
        text: sentence.
        marks: start and end in characters, label and kind of each entity, sorted by start.
    """
    found, at = [], 0
    for start, end, label, kind in [*marks, (len(text), len(text), "", "")]:
        if at < start:
            found.append(Piece(shortened(text[at:start], 240)))
        if label:
            found.append(Piece(shortened(text[start:end], 240), label, kind))
        at = max(at, end)
    return found
