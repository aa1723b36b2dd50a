"""How the input of a prediction is read: as the run's files, unless the user says otherwise."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from thaw.data.read.formats.content import is_fasttext, looks_tagged, suffix_of
from thaw.data.read.formats.registry import BY_SUFFIX
from thaw.data.read.reading import FormatName, Quoting, Reading
from thaw.data.read.text_files import split_part
from thaw.errors import ThawError, require_choice

FREE = ("", ".txt", ".tsv")  # suffixes of files of any format


def reading_of(given: Mapping[str, str], run: Mapping[str, Any], words: bool, text: str) -> Reading:
    """Returns how an input is read; raises ThawError if an option is not what it should be.

    Args:
        given: what the user typed, by option; "" where nothing was.
        run: the run's options of data.
        words: whether the task is about words, as `task=ner`.
        text: name of the column that a text becomes.
    """
    column = given["token_column"] or str(run.get("token_column", 0))
    if not column.lstrip("-").isdigit():
        raise ThawError(f"token_column={column}: expected a whole number.")
    header = {"": run.get("header"), "true": True, "false": False}
    if given["header"].lower() not in header:
        raise ThawError(f"header={given['header']}: expected true or false.")
    if given["quoting"]:
        require_choice("quoting", given["quoting"], get_args(Quoting))
    names = [name.strip() for name in given["columns"].strip("[]").split(",") if name.strip()]
    return Reading(
        format=input_format(given, run, words),
        encoding=input_encoding(given, run),
        header=header[given["header"].lower()],
        columns=names or (None if given["header"] else run.get("columns")),
        quoting=given["quoting"] or run.get("quoting"),
        reader=given["reader"] or (run.get("reader") if given["format"] in ("", "auto") else None),
        token_column=int(column),
        tag_column=None,
        text=text,
        tokens=str(run.get("tokens", "tokens")),
        tags=str(run.get("tags", "tags")),
        sentence=given["sentence"] or run.get("sentence"),
        words=words,
        annotated=False,
    )


def input_encoding(given: Mapping[str, str], run: Mapping[str, Any]) -> str:
    """Returns the encoding of an input: as typed, or the run's for a file, which is read as UTF-8
    where it is that; standard input, which is read once, is UTF-8 or an error."""
    own = "utf-8" if given["input"] == "-" else str(run.get("encoding", "utf-8"))
    return given["encoding"] or own


def input_format(given: Mapping[str, str], run: Mapping[str, Any], words: bool) -> str | None:
    """Returns the format of an input: as typed, or by its name, the run, or its content."""
    form, name = given["format"], given["input"]
    require_choice("format", form or "auto", ("auto", *get_args(FormatName)))
    if name == "-":
        if form not in ("", "auto", "text", "jsonl"):
            raise ThawError(
                f"format={form}: standard input is read as a text a line, or with format=jsonl as "
                "an object a line."
            )
        return "jsonl" if form == "jsonl" else "text"
    if form not in ("", "auto"):
        return form
    path, _ = split_part(Path(name))
    if not path.is_file():
        return None
    suffix = suffix_of(path)
    encoding = input_encoding(given, run)
    if BY_SUFFIX.get(suffix) == "columns" and suffix not in FREE:
        return "columns" if words else "text"
    if suffix not in FREE and suffix in BY_SUFFIX:
        return None
    own = run.get("format")
    if words and own == "columns" and (suffix == ".tsv" or looks_tagged(path, encoding)):
        return "columns"
    if suffix == ".tsv" or is_fasttext(path, encoding):
        return None
    if words and looks_tagged(path, encoding):
        return "columns"
    return "text" if suffix == ".txt" else None
