"""Records of JSON as rows: tables, and exports of Prodigy, doccano, Label Studio and spaCy 2."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from thaw.data.read.formats.json_files import json_lines, json_records
from thaw.data.read.reading import Reading
from thaw.data.read.text_files import open_lines
from thaw.errors import ThawError

log = logging.getLogger(__name__)

HEAD = 200  # records that tell the layout
ANSWERS = ("accept", "reject", "ignore")
Row = dict[str, Any]


def json_line_rows(path: Path, part: str | None, how: Reading) -> Iterator[Row]:
    """Returns rows of JSON Lines; see `table_rows`."""
    return table_rows(path, json_lines(path, open_lines(path, how.encoding)), how)


def json_file_rows(path: Path, part: str | None, how: Reading) -> Iterator[Row]:
    """Returns rows of a .json file, or of its array under the key `part`; see `table_rows`."""
    return table_rows(path, json_records(path, part, how.encoding), how)


def table_rows(path: Path, records: Iterable[Any], how: Reading) -> Iterator[Row]:
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
    name = found_tool(head) if how.format is None else how.format
    if name in TOOLS:
        if how.format is None:
            log.info("%s: read as format=%s, as its first records show", path, name)
        return exported_rows(path, chain(head, records), how, name)
    rows = named_rows(path, chain(head, records), how)
    if how.spans is not None and (column := spans_column(head, how)) is not None:
        log.info("%s: entities are read from its column %r", path, column)
        return ({**row, str(how.spans): row.get(column)} for row in rows)
    return rows


def found_tool(head: Sequence[Any]) -> str | None:
    """Returns the tool that wrote records, where they show it for certain."""
    records = [r for r in head if isinstance(r, dict)]
    if head and all(is_spacy_pair(r) for r in head):
        return "spacy_json"
    if not head or len(records) < len(head):
        return None
    answers = [r["answer"] for r in records if "answer" in r]
    if answers and all("text" in r for r in records) and all(a in ANSWERS for a in answers):
        return "prodigy"
    if all(
        isinstance(r.get("data"), dict)
        and any(isinstance(r.get(key), list) for key in ("annotations", "completions"))
        for r in records
    ):
        return "label_studio"
    return "spacy_json" if all(isinstance(r.get("paragraphs"), list) for r in records) else None


def is_spacy_pair(record: Any) -> bool:
    """Returns whether a record is a text and what spaCy 2 says of it."""
    match record:
        case [str(), dict(said)]:
            return not said.keys().isdisjoint({"entities", "cats"})
    return False


def named_rows(path: Path, records: Iterable[Any], how: Reading) -> Iterator[Row]:
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
    found = [
        column
        for column in dict.fromkeys(column for record in records for column in record)
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
        return [type(v) for v in item] == [int, int, str]
    keys = set(item) if isinstance(item, dict) else set()
    placed = {"start", "end"} <= keys or "start_offset" in keys
    return placed and not keys.isdisjoint({"label", "labels", "type"})


def exported_rows(path: Path, records: Iterable[Any], how: Reading, name: str) -> Iterator[Row]:
    """Yields rows of a tool's export, and warns of how many records are left out, and why."""
    rows_of_record, what = TOOLS[name]
    left_out: Counter[str] = Counter()
    several = number = 0
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict) and name != "spacy_json":
            raise ThawError(
                f"{path} row {number}: {str(record)[:40]} is no object; data.format=null finds "
                "the format from the content."
            )
        rows = rows_of_record(record, how, f"{path}: row {number}")
        several += name == "label_studio" and len(annotations_of(record)) > 1
        if isinstance(rows, str):
            left_out[rows] += 1
        else:
            yield from rows
    if left_out:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        out = f"{left_out.total()} of {number} rows are left out ({what}: {why})"
        log.warning("%s: %s; row numbers are of the others", path, out)
    if several:
        what = "tasks have several annotations; the first of each is read"
        log.warning("%s: %d of %d %s", path, several, number, what)


def prodigy_rows(record: Row, how: Reading, where: str) -> Iterable[Row] | str:
    """Returns the row of a record with the answer accept, or its answer.

    Where annotations do not matter, each is a row. A text without `spans` and without a label has
    no entity; of a choice, `accept` holds the labels.
    """
    answer = record.get("answer", "accept")
    if answer not in ANSWERS:
        raise ThawError(f"{where}: answer {answer!r}; expected {', '.join(ANSWERS)}.")
    if how.annotated and answer != "accept":
        return str(answer)
    row = dict(record)
    if isinstance(accepted := row.get("accept"), list) and "label" not in row:
        several = row.get("config", {}).get("choice_style") == "multiple" or len(accepted) > 1
        row["label"] = accepted if several else next(iter(accepted), None)
    if how.spans is not None and "label" not in row:
        row[how.spans] = row.get("spans") or []
    return [row]


def doccano_rows(record: Row, how: Reading, where: str) -> Iterable[Row]:
    """Returns the row of a record, whose spans are under `entities`, `label` or `labels`."""
    keys = [k for k in ("entities", "label", "labels") if is_list_of_spans(record.get(k))]
    if how.spans is None or how.spans in record or not keys:
        return [record]
    return [{**record, how.spans: record[keys[0]]}]


def annotations_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the annotations of a task of Label Studio that were not cancelled."""
    done = record.get("annotations") or record.get("completions") or []
    return [a for a in done if not a.get("was_cancelled")]


def label_studio_rows(record: Row, how: Reading, where: str) -> Iterable[Row] | str:
    """Returns the row of a task, in JSON or JSON-MIN: the text, and spans or choices by their name;
    or why there is none."""
    if not isinstance(record.get("data"), dict):
        return doccano_rows(record, how, where)
    row, kept = dict(record["data"]), annotations_of(record)
    if not kept:
        cancelled = record.get("annotations") or record.get("completions")
        return ("cancelled" if cancelled else "not annotated") if how.annotated else [row]
    spans = []
    for result in kept[0].get("result") or []:
        value = result.get("value") or {}
        if "choices" in value:
            chosen = value["choices"]
            row[str(result.get("from_name", "label"))] = chosen[0] if len(chosen) == 1 else chosen
        elif {"start", "end"} <= set(value) and ("labels" in value or "hypertextlabels" in value):
            spans.append({"labels": value.get("hypertextlabels"), **value})
        elif result.get("type") == "labels":
            raise ThawError(f"{where}: a result has no start, end and labels: {str(value)[:60]}.")
    return [row if how.spans is None else {**row, how.spans: spans}]


def spacy_json_rows(record: Any, how: Reading, where: str) -> Iterable[Row]:
    """Returns rows of spaCy 2's training data: a text and what is said of it, or a document of
    paragraphs, whose sentences have tags in BILUO."""
    if isinstance(record, dict) and isinstance(record.get("paragraphs"), list):
        return paragraph_rows(record["paragraphs"], where)
    match record:
        case [str(text), dict(said)]:
            spans = {} if how.spans is None else {how.spans: said.get("entities") or []}
            return [{how.text: text, **said, **spans}]
    expected = '[text, {"entities": [[0, 4, "PER"]]}]'
    raise ThawError(f"{where}: {str(record)[:60]}; expected {expected}.")


def paragraph_rows(paragraphs: Sequence[Mapping[str, Any]], where: str) -> Iterator[Row]:
    """Yields a row a sentence of spaCy 2's JSON of the command line: words with tags."""
    try:
        for sentence in (s for paragraph in paragraphs for s in paragraph["sentences"]):
            tags = [token.get("ner", "O") for token in sentence["tokens"]]
            yield {
                "tokens": [token["orth"] for token in sentence["tokens"]],
                "tags": ["O" if tag in ("-", "") else tag for tag in tags],
            }
    except (KeyError, TypeError, AttributeError) as error:
        what = f"paragraphs need sentences of tokens with orth and ner, and {error} is not there."
        raise ThawError(f"{where}: {what}") from None


# By format: what makes rows of a record, or says why it is left out, and what that is about.
TOOLS: dict[str, tuple[Callable[[Any, Reading, str], Iterable[Row] | str], str]] = {
    "prodigy": (prodigy_rows, "answer"),
    "doccano": (doccano_rows, ""),
    "label_studio": (label_studio_rows, "task"),
    "spacy_json": (spacy_json_rows, ""),
}
