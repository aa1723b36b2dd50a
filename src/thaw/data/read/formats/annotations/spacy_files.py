"""spaCy 3's .spacy files, through spaCy (an extra)."""

from pathlib import Path
from typing import Any

from thaw.data.read.reading import Reading
from thaw.data.read.rows import Reader, Remarks
from thaw.errors import ThawError


def spacy_rows(path: Path, part: str | None, how: Reading) -> Reader:
    """Yields documents of a .spacy file: words with tags, the text, and categories as `cats`."""
    try:
        from spacy.tokens import DocBin
        from spacy.vocab import Vocab
    except ImportError as error:
        raise ThawError(
            f"{path} is read with spaCy, which is not installed: pip install spacy "
            "(or thaw[spacy])."
        ) from error
    try:
        documents = DocBin().from_disk(path)
    except Exception as error:  # zlib, msgpack and spaCy each have errors of their own
        raise ThawError(f"{path} cannot be read by spaCy, is it damaged? {error}") from error
    spaces = 0
    for document in documents.get_docs(Vocab()):
        words = [token for token in document if not token.text.isspace()]
        spaces += len(document) - len(words)
        row: dict[str, Any] = {
            how.text: document.text,
            "tokens": [token.text for token in words],
            "tags": [
                f"{token.ent_iob_}-{token.ent_type_}" if token.ent_type_ else "O" for token in words
            ],
        }
        yield row | ({"cats": dict(document.cats)} if document.cats else {})
    return Remarks(parts={"words that are spaces alone": spaces})
