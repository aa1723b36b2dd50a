"""Makes tables of a run: what was read, what was warned of, and the scores. No torch here."""

from collections.abc import Iterable, Mapping, Sequence
from logging import LogRecord
from typing import Any

from thaw.cli.secrets import redacted_text
from thaw.cli.watched_metric import each_once
from thaw.data.summary import READ_COLUMNS, SPLIT_COLUMNS, DataSummary
from thaw.report.sections import Table, cell_text

COLUMNS = ("f1", "precision", "recall", "support")  # of the table of labels, in this order


def headline(metrics: Mapping[str, float], monitor: str) -> str | None:
    """Returns the name of the metric that stands for a run, or None if it has no metric.

    It is the watched metric on the test split, else the watched metric, else the first metric.
    """
    wanted = (monitor.replace("val/", "test/"), monitor, *metrics)
    return next((key for key in wanted if key in metrics), None)


def data_tables(summary: DataSummary) -> list[Table]:
    """Returns what was understood of the data: what was read, the splits, and their labels."""
    note = f"A text is cut where it is longer than data.max_tokens={summary.max_tokens}."
    found = [
        Table("data read", READ_COLUMNS, summary.read_rows(), examples=True),
        Table("splits", SPLIT_COLUMNS, summary.split_rows(), note),
    ]
    if labels := summary.label_rows():
        total = sum(row[1] for row in labels) or 1
        first, split = next(iter(summary.splits.items()))
        # Of several labels a text, and of entities, shares are not those of texts.
        share = f"share of {first}" if total == split.texts else f"share of labels in {first}"
        columns = ("label", *summary.splits, share)
        found.append(Table("labels", columns, [[*r, f"{r[1] / total:.1%}"] for r in labels]))
    return found


def warning_table(warnings: Sequence[LogRecord]) -> list[Table]:
    """Returns a table of what a run warned of, each sentence once; none if there was nothing."""
    rows = [[s] for s in dict.fromkeys(redacted_text(w.getMessage()) for w in warnings)]
    return [Table("warnings", ("of this run",), rows, examples=True)] if rows else []


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table in Markdown, whose cells hold any text; "" without rows."""
    cells = [[" ".join(cell_text(c).split()).replace("|", "\\|") for c in row] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells] if cells else []
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def part_scores(metrics: Mapping[str, float], part: str) -> dict[str, float]:
    """Returns the metrics of test, val or train without those of each label, by name."""
    own = {k.removeprefix(f"{part}/"): v for k, v in metrics.items() if k.startswith(f"{part}/")}
    return {name: value for name, value in own.items() if "/" not in name}


def score_tables(metrics: Mapping[str, float]) -> list[Table]:
    """Returns a table of the scores and, if there are any, a table of the scores of each label.

    The scores are those of the test; without a test, of validation or training.
    """
    parts = {key.partition("/")[0] for key in metrics}
    part = next((p for p in ("test", "val", "train") if p in parts), "val")
    rows: Any = list(each_once(part_scores(metrics, part)).items())
    found = [Table(f"{part} metrics", ("metric", "value"), rows)] if rows else []
    if labels := [k.split("/", 2)[2] for k in metrics if k.startswith(f"{part}/f1/")]:
        names = [n for n in COLUMNS if f"{part}/{n}/{labels[0]}" in metrics]
        rows = [[label, *label_scores(metrics, part, label, names)] for label in labels]
        found.append(Table("per label", ("label", *names), rows))
    return found


def label_scores(
    metrics: Mapping[str, float], part: str, label: str, names: Sequence[str]
) -> list[float | str]:
    """Returns the named scores of a label, "-" for those of one without a text in this part."""
    found = {name: metrics[f"{part}/{name}/{label}"] for name in names}
    none = found.get("support") == 0
    return ["-" if none and name != "support" else value for name, value in found.items()]
