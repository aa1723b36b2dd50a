"""What was understood of a data set: what was read and left out, and what its splits hold."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from thaw.data.read.labels.names import distinct_name
from thaw.data.read.rows import number_of, reasons
from thaw.data.read.texts import Source

LABELS = 20  # in a table


@dataclass(frozen=True)
class SplitSummary:
    """What a split holds."""

    texts: int  # number of texts
    repeats: int  # number of rows that are left out as another split has their text
    # Number of texts with each label, or of entities of each type.
    labels: Mapping[str, int] = field(default_factory=dict)
    mean_tokens: float | None = None  # mean length as trained on, cut at `max_tokens`
    longest: int | None = None  # length of the longest text in tokens, uncut; None: not known
    cut: int = 0  # number of texts that are longer than `max_tokens`, and cut
    hash: str = ""  # of its texts and labels in their order; "": not known

    @property
    def cut_share(self) -> float:
        """Share of the texts that are cut."""
        return self.cut / self.texts if self.texts else 0.0


@dataclass(frozen=True)
class DataSummary:
    """What was understood of a data set: what was read, and what became of it in each split."""

    name: str
    max_tokens: int
    sources: Sequence[Source]
    splits: Mapping[str, SplitSummary]

    def numbers(self) -> dict[str, Any]:
        """Returns all of it as plain values, for JSON."""
        found = asdict(self)
        for split, summary in self.splits.items():
            found["splits"][split]["cut_share"] = round(summary.cut_share, 6)
        return found

    def read_rows(self) -> list[list[Any]]:
        """Returns a row for each source: its name, format, columns, rows, and what is left out."""
        return [
            [
                source.origin,
                source.format,
                "; ".join(f"{option}: {', '.join(c)}" for option, c in source.columns.items()),
                "streamed, not counted" if source.rows is None else source.rows,
                "" if source.rows is None else reasons(source.left_out) or "none",
            ]
            for source in self.sources
        ]

    def split_rows(self) -> list[list[Any]]:
        """Returns a row for each split: its texts, repeats, lengths, and what is cut."""
        return [
            [
                split,
                found.texts,
                found.repeats,
                "" if found.mean_tokens is None else f"{found.mean_tokens:.1f}",
                "" if found.longest is None else found.longest,
                f"{found.cut:,} ({found.cut_share:.1%})",
            ]
            for split, found in self.splits.items()
        ]

    def label_rows(self) -> list[list[Any]]:
        """Returns a row for each label with its count in each split, the most frequent first."""
        names = {name: None for found in self.splits.values() for name in found.labels}
        counts = {n: [f.labels.get(n, 0) for f in self.splits.values()] for n in names}
        return [
            [distinct_name(name), *counts[name]]
            for name in sorted(names, key=lambda n: -sum(counts[n]))
        ]

    def text(self) -> str:
        """Returns a short table for the log."""
        lines = []
        for origin, form, columns, rows, left_out in self.read_rows():
            read = f"{number_of(rows, 'rows')}, left out: {left_out}" if left_out else rows
            lines.append(f"{origin}: {form}, {read}; {columns}")
        head = ["split", "texts", IN_ANOTHER, "tokens", "longest", f"over {self.max_tokens}"]
        lines += aligned([head, *self.split_rows()])
        if labels := self.label_rows():
            lines += aligned([["label", *self.splits], *labels[:LABELS]])
            if len(labels) > LABELS:
                lines.append(f"and {len(labels) - LABELS} labels more")
        return "\n".join(f"  {line}" for line in lines)


READ_COLUMNS = ("read", "format", "columns", "rows", "left out")
IN_ANOTHER = "left out as in another split"
SPLIT_COLUMNS = ("split", "texts", IN_ANOTHER, "mean tokens", "longest", "cut")


def aligned(rows: Iterable[Sequence[Any]], right: bool = True) -> list[str]:
    """Returns rows as lines with columns below each other, all but the first to the `right`."""
    cells = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place and right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
