"""Training data of spaCy 2, in JSON."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thaw.data.read.formats.options import Reading
from thaw.errors import ThawError

Rows = Iterator[dict[str, Any]]


def spacy_json_rows(path: Path, records: Iterable[Any], how: Reading) -> Rows:
    """Yields rows of spaCy 2's training data.

    It is [text, {"entities": [[0, 4, "PER"]], "cats": {...}}] for each text, or documents of
    paragraphs, whose sentences have tags in BILUO.
    """
    for number, record in enumerate(records, start=1):
        where = f"{path}: row {number}"
        if isinstance(record, dict) and isinstance(record.get("paragraphs"), list):
            yield from paragraph_rows(record["paragraphs"], where)
            continue
        if not (
            isinstance(record, list)
            and len(record) == 2
            and isinstance(record[0], str)
            and isinstance(record[1], dict)
        ):
            raise ThawError(
                f'{where}: {str(record)[:60]}; expected [text, {{"entities": [[0, 4, "PER"]]}}].'
            )
        text, about = record
        row = {how.text: text, **about}
        if how.spans is not None:
            row[how.spans] = about.get("entities") or []
        yield row


def paragraph_rows(paragraphs: Sequence[Mapping[str, Any]], where: str) -> Rows:
    """Yields a row a sentence of spaCy 2's JSON of the command line: words with tags."""
    try:
        for paragraph in paragraphs:
            for sentence in paragraph["sentences"]:
                tokens = sentence["tokens"]
                tags = [t.get("ner", "O") for t in tokens]
                yield {
                    "tokens": [t["orth"] for t in tokens],
                    "tags": ["O" if tag in ("-", "") else tag for tag in tags],
                }
    except (KeyError, TypeError, AttributeError) as error:
        raise ThawError(
            f"{where}: paragraphs need sentences of tokens with orth and ner, and {error} is not "
            "there."
        ) from None
