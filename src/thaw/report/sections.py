"""What a run found, as tables: the one source of report.html and of what W&B gets at its end.

No torch here: a sweep's report is written without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from thaw.data.summary import READ_COLUMNS, SPLIT_COLUMNS, DataSummary

ERRORS = 200  # examples of errors that are shown
CHARACTERS = 1000  # of a text that is shown
CLASSES = 20  # of a matrix; of more, the largest confusions are listed
COLUMNS = ("f1", "precision", "recall", "support")


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers.

    Attributes:
        title: what it shows; of W&B, the key.
        columns: their names.
        rows: a cell a column.
        note: a sentence below the title.
        examples: whether its rows are texts to read rather than numbers.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    examples: bool = False


@dataclass(frozen=True)
class Counts:
    """How often a row met a column: a confusion matrix, or what became of entities.

    Attributes:
        title: what it shows; of W&B, the key.
        down: what the rows are.
        across: what the columns are.
        rows: their names.
        columns: their names.
        counts: (rows, columns).
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
        """Whether it is a confusion matrix: its diagonal is right."""
        return list(self.rows) == list(self.columns)

    def confusions(self, limit: int = 50) -> Table:
        """What was taken for what, most often first."""
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
    """A stretch of a sentence; with a label it is an entity.

    `kind` is one of `thaw.data.entities.KINDS`.
    """

    text: str
    label: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Sentences:
    """Sentences with their gold and their predicted entities.

    Attributes:
        title: what it shows; of W&B, the key.
        pairs: the pieces of each sentence with its gold entities, and with the predicted ones.
        note: a sentence below the title.
    """

    kind: ClassVar[str] = "sentences"
    title: str
    pairs: Sequence[tuple[Sequence[Piece], Sequence[Piece]]]
    note: str = ""

    def table(self) -> Table:
        """The same as text, an entity as `[Oslo](LOC, missed)`."""
        rows = [["".join(map(spelled, side)) for side in pair] for pair in self.pairs]
        return Table(self.title, ("gold", "predicted"), rows, self.note, examples=True)


def spelled(piece: Piece) -> str:
    """A piece as plain text."""
    return f"[{piece.text}]({piece.label}, {piece.kind})" if piece.label else piece.text


Section = Table | Counts | Sentences


@dataclass(frozen=True)
class Findings:
    """A finished run, for people.

    Attributes:
        title: task, data and model.
        facts: name and value of what identifies the run.
        headline: name and value of its score; None: it has none.
        numbers: name and value of what it took.
        scores: of the test, else of validation.
        sections: what the task found.
        curves: SVG images of training, none without metrics.csv.
        trains: what trained.
        usage: what for, and the command or the code.
        config: composed, as YAML.
        environment: versions and the machine.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    headline: tuple[str, float] | None
    numbers: Sequence[tuple[str, str]]
    scores: Sequence[Table]
    sections: Sequence[Section]
    curves: Sequence[str]
    trains: Table
    usage: Sequence[tuple[str, str]]
    config: str
    environment: Mapping[str, str] = field(default_factory=dict)


def headline(metrics: Mapping[str, float], monitor: str) -> str | None:
    """The metric that stands for a run: the watched one's of the test, else the watched one, else
    the first that there is."""
    wanted = (monitor.replace("val/", "test/"), monitor, *metrics)
    return next((key for key in wanted if key in metrics), None)


def data_tables(summary: DataSummary) -> list[Table]:
    """Returns what was understood of the data: what was read, the splits, and their labels."""
    found = [
        Table("data read", READ_COLUMNS, summary.read_rows()),
        Table(
            "splits",
            SPLIT_COLUMNS,
            summary.split_rows(),
            f"A text is cut where it is longer than data.max_tokens={summary.max_tokens}.",
        ),
    ]
    labels = summary.label_rows()
    return found + ([Table("labels", ("label", *summary.splits), labels)] if labels else [])


def scores_of(metrics: Mapping[str, float]) -> list[Table]:
    """The scores of test, else of validation or train; and those of each label, if any."""
    parts = {key.partition("/")[0] for key in metrics}
    part = next((p for p in ("test", "val", "train") if p in parts), "val")
    flat = {
        k.removeprefix(f"{part}/"): v
        for k, v in metrics.items()
        if k.startswith(f"{part}/") and k.count("/") == 1
    }
    found = [Table(f"{part} metrics", ("metric", "value"), list(flat.items()))]
    if labels := [k.split("/", 2)[2] for k in metrics if k.startswith(f"{part}/f1/")]:
        names = [n for n in COLUMNS if f"{part}/{n}/{labels[0]}" in metrics]
        rows = [[label, *(metrics[f"{part}/{n}/{label}"] for n in names)] for label in labels]
        found.append(Table("per label", ("label", *names), rows))
    return found


def shown_number(value: Any) -> str:
    """A cell as text: numbers to four digits, lists with commas."""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def shortened(text: str, characters: int = CHARACTERS) -> str:
    """A text without its middle, if it is longer than that."""
    if len(text) <= characters:
        return text
    half = characters // 2
    return f"{text[:half]} […{len(text) - 2 * half:,} characters…] {text[-half:]}"


def pieces(text: str, marks: Sequence[tuple[int, int, str, str]]) -> list[Piece]:
    """A sentence cut into its entities and what lies between them, which is shortened.

    Args:
        text: the sentence.
        marks: start and end in characters, label and kind of each entity, in order.
    """
    found, at = [], 0
    for start, end, label, kind in [*marks, (len(text), len(text), "", "")]:
        if at < start:
            found.append(Piece(shortened(text[at:start], 240)))
        if label:
            found.append(Piece(shortened(text[start:end], 240), label, kind))
        at = max(at, end)
    return found
