"""A finished run and new texts give predictions: `python -m thaw.predict run=<dir> input=new.csv
output=out.csv`, in memory that does not grow with the file."""

import logging
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, tee
from pathlib import Path
from typing import Any

from thaw.cli.exit import exit_clearly
from thaw.cli.finished_run import finished_model, refuse_code, run_config
from thaw.cli.overrides import read_arguments
from thaw.data.added_columns import AddedColumns
from thaw.data.read.column_files import COLUMN_SUFFIXES, column_rows, is_word, split_fields
from thaw.data.read.standard_input import standard_input_rows
from thaw.data.read.surrogates import replace_surrogates
from thaw.data.read.tables import BATCH, FORMATS, open_lines, read_rows, text_rows
from thaw.data.read.tag_schemes import is_tag
from thaw.data.write import RowWriter
from thaw.errors import ThawError

KNOWN = {
    "run": None,
    "input": None,
    "output": "-",
    "format": "auto",
    "text": "",
    "token_column": "0",
    "batch_size": "64",
    "accelerator": "auto",
    "encoding": "utf-8",
    "trust": "",
}
USAGE = """usage: python -m thaw.predict run=<run directory> input=<file> [output=<file>]
       [format=auto|table|text|columns] [text=<column>] [token_column=0] [batch_size=64]
       [accelerator=auto] [encoding=utf-8] [trust=<module of your own>]
Tables are .csv, .tsv, .jsonl or .parquet; text is a text a line, as .txt and - (standard input)
are; columns are a word a line and an empty line between sentences, as .conll and .iob are, and a
.txt whose lines end in tags (task=ner). Output is a table; - is standard output, JSONL."""


def main(argv: list[str]) -> int:
    """Predicts for each row of a file.

    Args:
        argv: command line, see `USAGE`.

    Returns:
        The number of rows written: those of the input, with what the model predicts.

    Raises:
        ThawError: an option, the run or the file is not what it should be.
    """
    given, _ = read_arguments(argv, KNOWN, USAGE)
    model = finished_model(Path(given["run"]))
    if not given["batch_size"].isdigit() or int(given["batch_size"]) < 1:
        raise ThawError(f"batch_size={given['batch_size']}: expected a whole number from 1.")
    asked = [c for c in given["text"].strip("[]").split(",") if c]
    cfg = run_config(model.parent)
    refuse_code(cfg, model.parent, ["task"], given["trust"])
    column = cfg.data.get("text")
    origin = "standard input" if given["input"] == "-" else given["input"]
    read = input_rows(given, *asked[:1] or [column if isinstance(column, str) else "text"])
    rows = replace_surrogates(read, origin)
    if given["input"] != "-" and same_file(given["output"], given["input"]):
        raise ThawError("input and output are the same file.")
    head = list(islice(rows, BATCH))  # errors of the input show before the model is loaded
    if not head:
        raise ThawError(f"{origin} has no rows.")

    from hydra.utils import get_class

    from thaw.cli.check import plain
    from thaw.training.libraries import silence_libraries

    silence_libraries()
    predictor = get_class(cfg.task._target_).predictor(  # type: ignore[attr-defined]
        model, int(given["batch_size"]), given["accelerator"], plain(cfg.data)
    )
    columns = predictor.columns(head[0], asked)
    added = AddedColumns({name for row in head for name in row}, origin)
    kept, fed = tee(with_columns(chain(head, rows), columns, origin))
    count = empty = 0
    with RowWriter(given["output"]) as writer:
        for row, found in zip(kept, predictor.predict(fed, columns), strict=True):
            writer.write(added.add(row, found))
            count += 1
            empty += not any(str(row[c]).strip() for c in columns)
    if empty:
        print(
            f"thaw: {empty} of {count} texts are empty; what is predicted for them says nothing",
            file=sys.stderr,
        )
    return count


def same_file(one: str, two: str) -> bool:
    """Whether two paths, however they are written, are one file that is there."""
    return Path(one).exists() and Path(two).exists() and Path(one).samefile(two)


def with_columns(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], origin: str
) -> Iterator[Mapping[str, Any]]:
    """The rows; a ThawError at the first that lacks one of the columns."""
    for number, row in enumerate(rows, start=1):
        if missing := [c for c in columns if c not in row]:
            there = ", ".join(map(repr, row))
            raise ThawError(f"{origin}: row {number} has no {missing[0]!r}; it has {there}.")
        yield row


def looks_tagged(path: Path, encoding: str) -> bool:
    """Whether the first lines of a file end in tags, as those of a column file do."""
    head = map(split_fields, islice(open_lines(path, encoding), 200))
    fields = [f for f in head if is_word(f) and not f[0].startswith("#")]
    return bool(fields) and all(len(f) > 1 and (f[-1] == "O" or is_tag(f[-1])) for f in fields)


def input_rows(given: dict[str, str], column: str) -> Iterable[dict[str, Any]]:
    """The rows of the input in its format.

    Args:
        given: the options.
        column: that a text a line becomes.
    """
    path = Path(given["input"])
    suffixes = {s.lower() for s in path.suffixes[-2:]}
    form = given["format"]
    if form == "auto":
        form = "columns" if suffixes & set(COLUMN_SUFFIXES) else "table"
        form = "text" if given["input"] == "-" else form
        if ".txt" in suffixes:
            form = "columns" if looks_tagged(path, given["encoding"]) else "text"
    if given["input"] == "-" and form != "text":
        raise ThawError(f"format={form}: standard input is read as a text a line.")
    if given["input"] == "-":
        return standard_input_rows(given["encoding"], column)
    if form == "text":
        return text_rows(path, given["encoding"], column)
    if form == "columns":
        if not given["token_column"].lstrip("-").isdigit():
            raise ThawError(f"token_column={given['token_column']}: expected a whole number.")
        return column_rows(path, given["encoding"], int(given["token_column"]), None)
    if form == "table":
        return read_rows(path, given["encoding"])
    raise ThawError(f"format={form}: expected auto, table ({', '.join(FORMATS)}), text or columns.")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    logging.basicConfig(format="thaw: %(message)s", stream=sys.stderr)
    with exit_clearly():
        main(sys.argv[1:])
