"""A finished run and new texts give predictions: `python -m thaw.predict run=<dir> input=new.csv
output=out.csv`, in memory that does not grow with the file."""

import logging
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from thaw.cli.compose import exit_clearly
from thaw.cli.finished_run import finished, refuse_reader
from thaw.cli.overrides import read_arguments
from thaw.data.read.formats.arrow_files import BATCH
from thaw.data.read.formats.json_lines import Unread, json_lines
from thaw.data.read.formats.registry import found_format, rows_of
from thaw.data.read.input_reading import reading_of
from thaw.data.read.reading import Reading
from thaw.data.read.rows import Rows, reasons
from thaw.data.read.surrogates import replace_surrogates
from thaw.data.read.text_files import STANDARD_INPUT, open_lines, standard_input_lines
from thaw.data.write import AddedColumns, RowWriter
from thaw.errors import ThawError
from thaw.training.libraries import garbage_kept

READING = ("text", "header", "columns", "quoting", "token_column", "sentence", "reader", "encoding")
KNOWN = {
    **{"run": None, "input": None, "output": "-", "format": "auto"},
    **dict.fromkeys((*READING, "trust"), ""),
    **{"batch_size": "64", "accelerator": "auto", "precision": "32-true"},
    **{"engine": "torch", "stream": "false", "on_error": "stop"},
}
USAGE = """usage: python -m thaw.predict run=<run directory> input=<file> [output=<file>]
       [format=auto|<format>] [text=<column>] [header=true|false] [columns=<name,name,...>]
       [quoting=csv|backslash|none] [token_column=<number>] [sentence=<column>]
       [encoding=<encoding>] [reader=<module.function>] [batch_size=64] [accelerator=auto]
       [precision=32-true|bf16-true|auto] [engine=torch|onnx|int8]
       [stream=true] [on_error=skip] [trust=<module of your own>]
run= is also the directory of a sweep, whose finished runs are averaged, a model directory, or
owner/name on the Hub. The input is read as the run's own files are, in any format of docs/data.md;
of a .txt and of - (standard input) a line is a text, with format=jsonl an object. Output is a
table; - is standard output, JSONL. With stream=true each line is answered before the next one is
read. With on_error=skip a row that nothing can be predicted for gets its reason in the column
error, and the exit code is 3."""
SKIPPED = 3  # exit code


@dataclass
class Counts:
    """What was predicted."""

    rows: int = 0  # number of rows written: those of the input
    empty: int = 0  # number of texts with nothing in them
    skipped: int = 0  # number of rows that nothing could be predicted for
    first: str = ""  # why the first of these was skipped

    def tell(self, left_out: Mapping[str, int]) -> None:
        """Prints what a user should know to standard error, with what no row was made of."""
        said = [f"of the input are left out: {reasons(left_out)}"] if left_out else []
        if self.empty:
            from thaw.tasks.predictors.base import empty_told

            said.append(empty_told(self.empty, self.rows))
        if self.skipped:
            said.append(f"{self.skipped} of {self.rows} rows are skipped; the first: {self.first}")
        for line in said:
            print(f"thaw: {line}", file=sys.stderr)


def main(argv: list[str]) -> int:
    """Predicts for each row of a file, see `predict`, and returns the number of rows written."""
    return predict(argv).rows


def predict(argv: list[str]) -> Counts:
    """Predicts for each row of a file, and returns how many rows were written, which are those of
    the input with what the model predicts, and how many of them say nothing; raises ThawError if an
    option, the run or the file is not what it should be."""
    given, _ = read_arguments(argv, KNOWN, USAGE)
    check_options(given)
    stream, skip = given["stream"] == "true", given["on_error"] == "skip"
    found = finished(given["run"], given["trust"])
    asked = [c for c in given["text"].strip("[]").split(",") if c]
    data = found[0].data
    if not given["reader"] and given["format"] in ("", "auto"):
        way = " Or name the input's format, format=..., which reads without it."
        refuse_reader(data.get("reader"), Path(given["run"]), given["trust"], way)
    column = data.get("text")
    text = asked[0] if asked else str(column) if isinstance(column, str | int) else "text"
    words = str(data.get("_target_")).startswith("thaw.data.ner.")
    how = reading_of(given, data, words, text)
    origin = "standard input" if given["input"] == "-" else given["input"]
    source = input_rows(given, how, skip)
    rows = replace_surrogates(source, origin)
    # Errors of the input show before the model is loaded.
    head = list(islice(rows, 1 if stream else BATCH))
    if not head:
        raise ThawError(f"{origin} has no rows.")
    options = {key: given[key] for key in ("accelerator", "precision", "engine")}
    with garbage_kept():
        from thaw.model import Model
        from thaw.tasks.predictors.base import is_empty

        predictor = Model(found, int(given["batch_size"]), stream=stream, **options).predictor
    if given["precision"] == "auto":
        print(f"thaw: precision=auto is {predictor.precision} here", file=sys.stderr)
    first = next((row for row in head if not isinstance(row, Unread)), head[0])
    columns = predictor.columns(first, asked)
    added = AddedColumns({name for row in head for name in row}, origin)
    counts = Counts()
    with RowWriter(given["output"]) as writer:
        for row, answer in predictor.answers(chain(head, rows), columns, origin, skip):
            writer.write(added.add(row, answer))
            counts.rows += 1
            if reason := answer.get("error"):
                counts.first = counts.first or reason
                counts.skipped += 1
            else:
                counts.empty += is_empty(row, columns)
    counts.tell(source.remarks.left_out)
    return counts


def check_options(given: Mapping[str, str]) -> None:
    """Raises ThawError for an option that is not what it should be."""
    if not given["batch_size"].isdigit() or int(given["batch_size"]) < 1:
        raise ThawError(f"batch_size={given['batch_size']}: expected a whole number from 1.")
    for name, choices in (("on_error", ("stop", "skip")), ("stream", ("false", "true"))):
        if given[name] not in choices:
            raise ThawError(f"{name}={given[name]}: expected {' or '.join(choices)}.")
    one, two = Path(given["input"]), Path(given["output"])
    if given["input"] != "-" and one.exists() and two.exists() and one.samefile(two):
        raise ThawError("input and output are the same file.")


def input_rows(given: Mapping[str, str], how: Reading, skip: bool) -> Rows:
    """Returns the rows of the input. With `skip` a line of JSONL that is no row is passed over, and
    not an error."""
    path = Path(given["input"])
    if given["input"] == "-":
        lines = standard_input_lines(how.encoding)
        if how.format == "jsonl":
            return Rows(json_lines(STANDARD_INPUT, lines, skip))
        return Rows({how.text: line.rstrip("\r\n")} for line in lines)
    if skip and how.reader is None and (how.format or found_format(path, how)) == "jsonl":
        return Rows(json_lines(path, open_lines(path, how.encoding), skip))
    return rows_of(path, how)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    logging.basicConfig(format="thaw: %(message)s", stream=sys.stderr)
    with exit_clearly():
        sys.exit(SKIPPED if predict(sys.argv[1:]).skipped else 0)
