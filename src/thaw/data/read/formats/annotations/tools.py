"""Records of JSON as rows: tables, and exports of Prodigy, doccano, Label Studio and spaCy 2."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from thaw.data.read.formats.content import ANSWERS, found_tool, spans_column, tool_of_spans
from thaw.data.read.formats.json_files import json_records
from thaw.data.read.formats.json_lines import json_lines
from thaw.data.read.reading import Reading
from thaw.data.read.rows import Placed, Reader, Remarks, Rows, numbered, replaced
from thaw.data.read.text_files import open_lines
from thaw.errors import ThawError

log = logging.getLogger(__name__)

HEAD = 200  # records that tell the layout
Row = dict[str, Any]


def json_rows(path: Path, part: str | None, how: Reading, lines: bool = False) -> Reader:
    """Yields records of a JSON file, or of JSON Lines, as rows.

    `how.format` names the layout of the tool that wrote them, or the first records tell it; `part`
    is the key of the array that holds them.
    """
    source = Rows(
        json_lines(path, open_lines(path, how.encoding))
        if lines
        else json_records(path, part, how.encoding)
    )
    head = list(islice(source, HEAD))
    name = found_tool(head) if how.format is None else how.format
    if name in TOOLS:
        if how.format is None:
            log.info("%s: read as format=%s, as its first records show", path, name)
        rows = Rows(exported_rows(path, chain(head, source), how, name))
    else:
        rows = Rows(named_rows(path, chain(head, source), how))
    first = list(islice(rows, HEAD))
    column = None if how.spans is None else spans_column(first, how)
    if column is None:
        yield from chain(first, rows)
    else:
        log.info("%s: entities are read from its column %r", path, column)
        name = name or tool_of_spans(first, column)
        for row in chain(first, rows):
            yield replaced(row, {str(how.spans): row.get(column)})
    parts = {**rows.remarks.parts, **source.remarks.parts}
    return replace(rows.remarks, parts=parts, format=name)


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


def exported_rows(path: Path, records: Iterable[Any], how: Reading, name: str) -> Reader:
    """Yields rows of a tool's export; what is left out is in the remarks."""
    left_out: Counter[str] = Counter()
    further = 0
    for number, record in numbered(records):
        if not isinstance(record, dict) and name != "spacy_json":
            raise ThawError(
                f"{path} row {number}: {str(record)[:40]} is no object; data.format=null finds "
                "the format from the content."
            )
        rows = TOOLS[name](record, how, f"{path}: row {number}")
        if isinstance(rows, str):
            left_out[rows] += 1
            continue
        if name == "label_studio":
            further += max(0, len(annotations_of(record)) - 1)
        yield from (Placed(row, number) for row in rows)
    return Remarks(left_out, {"annotations after the first one of a task": further})


def prodigy_rows(record: Row, how: Reading, where: str) -> Iterable[Row] | str:
    """Returns the row of a record with the answer accept, or why there is none. A text without
    `spans` and without a label has no entity; of a choice, `accept` holds the labels."""
    answer = record.get("answer", "accept")
    if answer not in ANSWERS:
        raise ThawError(f"{where}: answer {answer!r}; expected {', '.join(ANSWERS)}.")
    if how.annotated and answer != "accept":
        return f"rows with the answer {answer}"
    row = dict(record)
    if isinstance(accepted := row.get("accept"), list) and "label" not in row:
        several = row.get("config", {}).get("choice_style") == "multiple" or len(accepted) > 1
        row["label"] = accepted if several else next(iter(accepted), None)
    if how.spans is not None and "label" not in row:
        row[how.spans] = row.get("spans") or []
    return [row]


def annotations_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the annotations of a task of Label Studio that were not cancelled."""
    done = record.get("annotations") or record.get("completions") or []
    return [a for a in done if not a.get("was_cancelled")]


def label_studio_rows(record: Row, how: Reading, where: str) -> Iterable[Row] | str:
    """Returns the row of a task, in JSON or JSON-MIN, with spans or choices; or why not."""
    if not isinstance(record.get("data"), dict):
        return [record]
    row, kept = dict(record["data"]), annotations_of(record)
    if not kept:
        cancelled = record.get("annotations") or record.get("completions")
        why = "cancelled tasks" if cancelled else "tasks without an annotation"
        return why if how.annotated else [row]
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
    """Returns rows of spaCy 2's training data: of a text with annotations, or of a document."""
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


# By format: what makes rows of a record, or says what is left out.
TOOLS: dict[str, Callable[[Any, Reading, str], Iterable[Row] | str]] = {
    "prodigy": prodigy_rows,
    "doccano": lambda record, how, where: [record],  # `spans_column` finds the spans
    "label_studio": label_studio_rows,
    "spacy_json": spacy_json_rows,
}
