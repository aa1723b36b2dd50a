"""brat's standoff files: a text beside a file of annotations (Stenetorp et al. 2012)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thaw.data.read.reading import Reading
from thaw.data.read.rows import Reader, Remarks
from thaw.data.read.text_files import open_lines, read_whole
from thaw.errors import ThawError


def brat_rows(path: Path, part: str | None, how: Reading) -> Reader:
    """Yields a row for each .txt file beside an .ann file of a folder and the folders in it.

    A discontinuous entity is read from its first to its last character, as standoff2conll does.
    Relations, events, attributes and notes are passed over.
    """
    folder = path if path.is_dir() else path.parent
    texts = sorted(path.rglob("*.txt")) if path.is_dir() else [path.with_suffix(".txt")]
    notes = sorted(path.rglob("*.ann")) if path.is_dir() else [path.with_suffix(".ann")]
    for ann in notes:
        if not ann.with_suffix(".txt").is_file():
            raise ThawError(f"{ann} has no {ann.with_suffix('.txt').name} beside it.")
    alone = [t for t in texts if not t.with_suffix(".ann").is_file()]
    if how.annotated and len(alone) == len(texts):
        raise ThawError(f"{path} has no .ann file beside a .txt file.")
    broken = others = 0
    for text in texts:
        if how.annotated and text in alone:
            continue
        whole = read_whole(text, how.encoding)
        row: dict[str, Any] = {how.text: whole, "document": str(text.relative_to(folder))}
        if how.spans is not None and text not in alone:
            row[how.spans] = []
            for span, pieces in annotations(text.with_suffix(".ann"), how.encoding):
                row[how.spans] += [span] * bool(pieces)
                broken += pieces > 1
                others += not pieces
        yield row
    parts = {
        "annotations that are no entities": others,
        "gaps of discontinuous entities, read from their first to their last character": broken,
    }
    if not (how.annotated and alone):
        return Remarks(parts=parts)
    return Remarks({f"texts without an .ann file, such as {alone[0].name}": len(alone)}, parts)


def annotations(path: Path, encoding: str) -> Iterator[tuple[dict[str, Any], int]]:
    """Yields annotations of an .ann file, each with the number of its pieces; 0: no entity."""
    if not path.stat().st_size:
        return
    for number, line in enumerate(open_lines(path, encoding), start=1):
        if not line.startswith("T"):
            if line.strip():
                yield {}, 0
            continue
        try:
            _, about, text = line.rstrip("\r\n").split("\t", 2)
            label, _, places = about.partition(" ")
            pieces = [tuple(map(int, piece.split())) for piece in places.split(";")]
            start, end = pieces[0][0], pieces[-1][1]
        except (ValueError, IndexError):
            raise ThawError(
                f"{path} line {number}: {line.strip()!r}; expected an entity such as "
                "'T1\\tPER 0 9\\tAnna Berg'."
            ) from None
        span = {"start": start, "end": end, "label": label}
        yield (span | {"text": text} if len(pieces) == 1 else span), len(pieces)
