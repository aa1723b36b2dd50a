"""Exports of annotation tools, as records of JSON: Prodigy, doccano, Label Studio and spaCy 2."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from thaw.data.read.formats.options import Reading
from thaw.data.read.formats.spacy_json import spacy_json_rows
from thaw.errors import ThawError

log = logging.getLogger(__name__)

HEAD = 200  # records that tell the layout
ANSWERS = ("accept", "reject", "ignore")
Rows = Iterator[dict[str, Any]]


def table_rows(path: Path, records: Iterable[Any], how: Reading) -> Rows:
    """Returns records as rows, by the layout of the tool that wrote them.

    Args:
        path: of the file, for messages.
        records: objects or lists.
        how: `format` names the layout; where it does not, the first records tell it.

    Raises:
        ThawError: a record is a list and its columns have no names, or it is not of its layout.
    """
    records = iter(records)
    head = list(islice(records, HEAD))
    name = found_layout(head) if how.format is None else how.format
    name = name if name in LAYOUTS else None
    if name is not None:
        if how.format is None:
            log.info("%s: read as format=%s, as its first records show", path, name)
        return LAYOUTS[name](path, chain(head, records), how)
    rows = named_rows(path, chain(head, records), how)
    if how.spans is not None and (column := spans_column(head, how)) is not None:
        log.info("%s: entities are read from its column %r", path, column)
        return ({**row, str(how.spans): row.get(column)} for row in rows)
    return rows


def found_layout(head: Sequence[Any]) -> str | None:
    """Returns the layout of records, where they show it for certain."""
    if not head:
        return None
    if all(isinstance(r, list) for r in head):
        pairs = all(len(r) == 2 and isinstance(r[0], str) and is_spacy(r[1]) for r in head)
        return "spacy_json" if pairs else None
    records = [r for r in head if isinstance(r, dict)]
    if len(records) < len(head):
        return None
    answers = [r["answer"] for r in records if "answer" in r]
    if answers and all("text" in r for r in records) and all(a in ANSWERS for a in answers):
        return "prodigy"
    if all(isinstance(r.get("data"), dict) and is_list_of_annotations(r) for r in records):
        return "label_studio"
    if all(isinstance(r.get("paragraphs"), list) for r in records):
        return "spacy_json"
    return None


def is_spacy(value: Any) -> bool:
    """Returns whether a value is what spaCy 2 says of a text."""
    return isinstance(value, dict) and bool({"entities", "cats"} & set(value))


def is_list_of_annotations(record: Mapping[str, Any]) -> bool:
    """Returns whether a record has the annotations of a Label Studio task."""
    return any(isinstance(record.get(k), list) for k in ("annotations", "completions"))


def named_rows(path: Path, records: Iterable[Any], how: Reading) -> Rows:
    """Yields records as rows; lists get the names of `columns`, else 0, 1, 2, ..."""
    for number, record in enumerate(records, start=1):
        if isinstance(record, dict):
            yield record
            continue
        names = list(how.columns or map(str, range(len(record))))
        if len(names) != len(record):
            raise ThawError(
                f"{path} row {number}: {len(record)} values, data.columns has {len(names)} "
                f"({', '.join(names)}): {str(record)[:60]}."
            )
        yield dict(zip(names, record, strict=True))


def spans_column(head: Sequence[Any], how: Reading) -> str | None:
    """Returns the only column of the first records that holds spans; None where there are several,
    or one has the asked name."""
    records = [r for r in head if isinstance(r, dict)]
    if not records or any(how.spans in r or how.text not in r for r in records):
        return None
    columns = dict.fromkeys(column for record in records for column in record)
    found = [
        column
        for column in columns
        if any(r.get(column) for r in records)
        and all(r.get(column) is None or is_list_of_spans(r[column]) for r in records)
    ]
    return found[0] if len(found) == 1 else None


def is_list_of_spans(value: Any) -> bool:
    """Returns whether a value is a list of spans."""
    return isinstance(value, list) and all(map(is_span, value))


def is_span(item: Any) -> bool:
    """Returns whether a value is a span, as one of the tools writes it."""
    if isinstance(item, list):
        kinds = [type(v) for v in item]
        return kinds == [int, int, str]
    if not isinstance(item, dict):
        return False
    keys = set(item)
    return bool(
        keys & {"label", "labels", "type"} and ({"start", "end"} <= keys or "start_offset" in keys)
    )


def prodigy_rows(path: Path, records: Iterable[Any], how: Reading) -> Rows:
    """Yields rows of Prodigy's JSONL: those with the answer accept, or all.

    All are read where annotations do not matter. A text without `spans` and without a label has no
    entity; of a choice, `accept` holds the labels.
    """
    out: Counter[str] = Counter()
    number = 0
    for number, record in enumerate(require_objects(path, records), start=1):
        answer = record.get("answer", "accept")
        if answer not in ANSWERS:
            raise ThawError(
                f"{path} row {number}: answer {answer!r}; expected {', '.join(ANSWERS)}."
            )
        if how.annotated and answer != "accept":
            out[answer] += 1
            continue
        row = dict(record)
        if isinstance(row.get("accept"), list) and "label" not in row:
            several = row.get("config", {}).get("choice_style") == "multiple"
            row["label"] = row["accept"] if several or len(row["accept"]) > 1 else first(row)
        if how.spans is not None and "label" not in row:
            row[how.spans] = row.get("spans") or []
        yield row
    say_left_out(path, out, number, "answer")


def first(row: Mapping[str, Any]) -> Any:
    """Returns the one accepted choice of a row, None where there is none."""
    return row["accept"][0] if row["accept"] else None


def doccano_rows(path: Path, records: Iterable[Any], how: Reading) -> Rows:
    """Yields rows of doccano's JSONL, whose spans are under `entities`, `label` or `labels`."""
    for record in require_objects(path, records):
        row = dict(record)
        if how.spans is not None and how.spans not in row:
            held = [c for c in ("entities", "label", "labels") if is_list_of_spans(row.get(c))]
            if held:
                row[how.spans] = row[held[0]]
        yield row


def label_studio_rows(path: Path, records: Iterable[Any], how: Reading) -> Rows:
    """Yields rows of Label Studio's JSON and JSON-MIN: the text, and spans or the choice."""
    out: Counter[str] = Counter()
    several = number = 0
    for number, record in enumerate(require_objects(path, records), start=1):
        if not isinstance(record.get("data"), dict):
            yield from doccano_rows(path, [record], how)
            continue
        row = dict(record["data"])
        done = record.get("annotations") or record.get("completions") or []
        kept = [a for a in done if not a.get("was_cancelled")]
        if how.annotated and not kept:
            out["cancelled" if done else "not annotated"] += 1
            continue
        several += len(kept) > 1
        if kept:
            add_results(row, kept[0].get("result") or [], how, f"{path}: row {number}")
        yield row
    say_left_out(path, out, number, "task")
    if several:
        log.warning(
            "%s: %d of %d tasks have several annotations; the first of each is read",
            path,
            several,
            number,
        )


def add_results(
    row: dict[str, Any], results: Sequence[Mapping[str, Any]], how: Reading, where: str
) -> None:
    """Adds what an annotation of Label Studio says to a row: spans, and choices by their name."""
    spans = []
    for result in results:
        value = result.get("value") or {}
        if "choices" in value:
            name = str(result.get("from_name", "label"))
            chosen = value["choices"]
            row[name] = chosen[0] if len(chosen) == 1 else chosen
        elif {"start", "end"} <= set(value) and ("labels" in value or "hypertextlabels" in value):
            spans.append({"labels": value.get("hypertextlabels"), **value})
        elif result.get("type") == "labels":
            raise ThawError(f"{where}: a result has no start, end and labels: {str(value)[:60]}.")
    if how.spans is not None:
        row[how.spans] = spans


def require_objects(path: Path, records: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yields the records; raises ThawError at the first that is no object."""
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise ThawError(
                f"{path} row {number}: {str(record)[:40]} is no object; data.format=null finds "
                "the format from the content."
            )
        yield record


def say_left_out(path: Path, out: Counter[str], number: int, what: str) -> None:
    """Says how many records were left out, and why."""
    if out:
        why = ", ".join(f"{count} {name}" for name, count in sorted(out.items()))
        log.warning(
            "%s: %d of %d rows are left out (%s: %s); row numbers are of the others",
            path,
            sum(out.values()),
            number,
            what,
            why,
        )


LAYOUTS: dict[str, Callable[[Path, Iterable[Any], Reading], Rows]] = {
    "prodigy": prodigy_rows,
    "doccano": doccano_rows,
    "label_studio": label_studio_rows,
    "spacy_json": spacy_json_rows,
}
