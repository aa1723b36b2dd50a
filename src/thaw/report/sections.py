"""Holds what a run found: the results of its test, and tables and figures, which `report.html`, W&B
and MLflow show.

This module does not import torch, because a sweep's report is written without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any, ClassVar

ERRORS = 200  # most examples of errors that are shown
CHARACTERS = 1000  # most characters that are shown of a text
CLASSES = 20  # most classes of a matrix; of more, the largest confusions are listed


@dataclass(frozen=True)
class Table:
    """A table of texts and numbers."""

    kind: ClassVar[str] = "table"
    title: str  # heading of the table in the report, and its key in W&B
    columns: Sequence[str]  # names of the columns
    rows: Sequence[Sequence[Any]]  # cells of each row, one for each column
    note: str = ""  # sentence below the title
    examples: bool = False  # whether the rows are texts to read rather than numbers

    def table(self) -> "Table":
        """Returns itself, as other sections return theirs."""
        return self

    def filled(self) -> "Table":
        """Returns the table without columns whose cells are all empty."""
        kept = [any(c not in ("", None) for c in cells) for cells in zip(*self.rows, strict=True)]
        if all(kept):  # or there are no rows
            return self
        names, *rows = (list(compress(row, kept)) for row in (self.columns, *self.rows))
        return replace(self, columns=names, rows=rows)


@dataclass(frozen=True)
class Counts:
    """A matrix of counts, such as a confusion matrix."""

    kind: ClassVar[str] = "counts"
    title: str  # heading of the matrix in the report, and its key in W&B
    down: str  # what the rows stand for, such as "true"
    across: str  # what the columns stand for, such as "predicted"
    rows: Sequence[str]  # names of the rows
    columns: Sequence[str]  # names of the columns
    counts: Sequence[Sequence[int]]  # counts, (rows, columns)

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
    """A part of a sentence: an entity, or the text between two."""

    text: str  # text of the part
    label: str = ""  # type of the entity; "" for text between entities
    kind: str = ""  # one of `thaw.data.entities.KINDS`, for an entity

    def __str__(self) -> str:
        return f"[{self.text}]({self.label}, {self.kind})" if self.label else self.text


@dataclass(frozen=True)
class Sentences:
    """Sentences with their gold and their predicted entities."""

    kind: ClassVar[str] = "sentences"
    title: str  # heading of the section in the report, and its key in W&B
    # Pieces of each sentence, once with the gold and once with the predicted entities.
    pairs: Sequence[tuple[Sequence[Piece], Sequence[Piece]]]
    note: str = ""  # sentence below the title

    def table(self) -> Table:
        """Returns the sentences as a table of text, with an entity as `[Oslo](LOC, missed)`."""
        rows = [["".join(map(str, side)) for side in pair] for pair in self.pairs]
        return Table(self.title, ("gold", "predicted"), rows, self.note, examples=True)


@dataclass(frozen=True)
class Image:
    """A figure; `thaw.report.figures.image` draws one."""

    kind: ClassVar[str] = "image"
    title: str  # heading of the section in the report
    png: bytes = b""  # the figure as PNG, which is written as `file`; empty: there is none
    # Parts of the figure as SVG, which the report shows side by side where there is room, by
    # their alternative text; empty: the report does not show it.
    panels: Mapping[str, str] = field(default_factory=dict)
    note: str = ""  # sentence below the title

    @property
    def file(self) -> str:
        """Name of the PNG file in the run directory, and key in W&B."""
        return f"{self.title.replace(' ', '_')}.png"


Section = Table | Counts | Sentences | Image


@dataclass(frozen=True)
class Findings:
    """What the report of a finished run shows."""

    title: str  # task and data of the run
    facts: Sequence[tuple[str, str]]  # names and values that identify the run
    # Name and value of the run's main score; None if it has no metric.
    headline: tuple[str, float] | None
    # Names and values of the time, steps and memory that the run took.
    numbers: Sequence[tuple[str, str]]
    scores: Sequence[Table]  # scores of the test, or of validation if there was no test
    # The learning curve, what the task found, and what was understood of the data.
    sections: Sequence[Section]
    trains: Table  # table of the parts of the model that trained
    usage: Sequence[tuple[str, str]]  # purposes, each with the command or code that serves it
    config: str  # composed config as YAML
    # Versions of the libraries, and the machine.
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
    """Returns a sentence as entities and the texts between them, each shortened to 240 characters;
    `marks` are start and end in characters, label and kind of each entity, sorted by start."""
    found, at = [], 0
    for start, end, label, kind in [*marks, (len(text), len(text), "", "")]:
        if at < start:
            found.append(Piece(shortened(text[at:start], 240)))
        if label:
            found.append(Piece(shortened(text[start:end], 240), label, kind))
        at = max(at, end)
    return found


@dataclass(frozen=True)
class TestResults:
    """The results of a test, of all processes."""

    # Flat names to numbers, such as `test/f1`, as metrics.json holds them.
    metrics: dict[str, float]
    # What the model gave for each row of the test, by the row's number and in its order:
    # probabilities, tags, a number.
    outputs: Mapping[int, Any] = field(default_factory=dict)
    # Number of rows of each gold and predicted class (C, C); None if there are none.
    confusion: list[list[int]] | None = None

    __test__: ClassVar[bool] = False  # for pytest: no tests in here
