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
from thaw.cli.finished_run import finished_model, refuse_code, refuse_reader, run_config
from thaw.cli.overrides import read_arguments
from thaw.data.added_columns import AddedColumns
from thaw.data.read.formats.arrow_files import BATCH
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.input_reading import reading_of
from thaw.data.read.reading import Reading
from thaw.data.read.standard_input import standard_input_rows
from thaw.data.read.surrogates import replace_surrogates
from thaw.data.write import RowWriter
from thaw.errors import ThawError

READING = ("text", "header", "columns", "quoting", "token_column", "sentence", "reader", "encoding")
KNOWN = {
    **{"run": None, "input": None, "output": "-", "format": "auto"},
    **dict.fromkeys((*READING, "trust"), ""),
    **{"batch_size": "64", "accelerator": "auto"},
}
USAGE = """usage: python -m thaw.predict run=<run directory> input=<file> [output=<file>]
       [format=auto|<format>] [text=<column>] [header=true|false] [columns=<name,name,...>]
       [quoting=csv|backslash|none] [token_column=<number>] [sentence=<column>]
       [encoding=<encoding>] [reader=<module.function>] [batch_size=64] [accelerator=auto]
       [trust=<module of your own>]
The input is read as the run's own files are, in any format of docs/data.md; of a .txt and of -
(standard input) a line is a text. Output is a table; - is standard output, JSONL."""


def main(argv: list[str]) -> int:
    """Predicts for each row of a file.

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
    from thaw.cli.check import plain

    refuse_reader(cfg.data.get("reader"), model.parent, given["trust"], given)
    data = plain(cfg.data)
    column = data.get("text")
    text = asked[0] if asked else str(column) if isinstance(column, str | int) else "text"
    words = str(data.get("_target_")).startswith("thaw.data.ner.")
    how = reading_of(given, data, words, text)
    origin = "standard input" if given["input"] == "-" else given["input"]
    rows = replace_surrogates(input_rows(given, how), origin)
    if given["input"] != "-" and same_file(given["output"], given["input"]):
        raise ThawError("input and output are the same file.")
    head = list(islice(rows, BATCH))  # errors of the input show before the model is loaded
    if not head:
        raise ThawError(f"{origin} has no rows.")

    from hydra.utils import get_class

    from thaw.training.libraries import silence_libraries

    silence_libraries()
    predictor = get_class(cfg.task._target_).predictor(  # type: ignore[attr-defined]
        model, int(given["batch_size"]), given["accelerator"], data
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
    """Returns whether two paths, however they are written, are the same existing file."""
    return Path(one).exists() and Path(two).exists() and Path(one).samefile(two)


def with_columns(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], origin: str
) -> Iterator[Mapping[str, Any]]:
    """Yields the rows; raises ThawError at the first one without one of the columns."""
    for number, row in enumerate(rows, start=1):
        if missing := [c for c in columns if c not in row]:
            there = ", ".join(map(repr, row))
            raise ThawError(f"{origin}: row {number} has no {missing[0]!r}; it has {there}.")
        yield row


def input_rows(given: dict[str, str], how: Reading) -> Iterable[dict[str, Any]]:
    """Returns the rows of the input."""
    if given["input"] == "-":
        return standard_input_rows(how.encoding, how.text)
    return rows_of(Path(given["input"]), how)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    logging.basicConfig(format="thaw: %(message)s", stream=sys.stderr)
    with exit_clearly():
        main(sys.argv[1:])
