"""Keeps encoded texts on disk: tokenized once, memory-mapped, shared by runs and processes."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import tokenizers
import transformers
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from thaw.storage.cache import DiskCache, cache_dir, disk_errors

BUDGET_GIB = 20.0  # of all entries
VERSION = 4  # of the format, part of the key

Rows = dict[str, list]  # columns of the same length


def arrow_type(value: Any) -> pa.DataType:
    """Returns the type that a value is kept as: tokens and labels take four bytes."""
    if isinstance(value, list):
        return pa.list_(arrow_type(value[0]) if value else pa.int32())
    return pa.float32() if isinstance(value, float) else pa.int32()


def cache_key(*parts: Any) -> str:
    """Returns the key that follows from some values; of an iterable, its items count."""
    state = hashlib.sha256(str(VERSION).encode())
    for part in parts:
        items = [part] if isinstance(part, (str, int, dict)) or part is None else part
        for value in items:
            state.update(repr(value).encode("utf-8", "surrogatepass"))
    return state.hexdigest()[:32]


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns all that decides how a tokenizer cuts a text."""
    if not tokenizer.is_fast:
        words = sorted(tokenizer.get_vocab().items())
        return f"{type(tokenizer).__name__} {transformers.__version__} {words}"
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # What the last call set: each call sets its own.
    state |= {"truncation": None, "padding": None}
    return f"{tokenizers.__version__} {tokenizer.model_input_names} {json.dumps(state)}"


def cached_rows(
    key: str, make: Callable[[], Iterable[tuple[Rows, Mapping[str, int]]]]
) -> tuple[Dataset, dict[str, int]]:
    """Returns encoded rows and their statistics from the cache, by the `cache_key` of all that they
    follow from; where it lacks them, `make` yields them in batches, each with statistics of all
    rows so far."""
    root = cache_dir() / "tokens"
    with disk_errors(root, "THAW_CACHE"):
        cache = DiskCache(root, int(BUDGET_GIB * 2**30))
        return cache.get(key, lambda directory: write_rows(directory, make()), read_rows)


def read_rows(directory: Path) -> tuple[Dataset, dict[str, int]]:
    """Maps the rows of an entry into memory, and reads their statistics."""
    statistics = json.loads((directory / "about.json").read_text(encoding="utf-8"))
    return Dataset.from_file(str(directory / "rows.arrow")), statistics


def write_rows(directory: Path, batches: Iterable[tuple[Rows, Mapping[str, int]]]) -> None:
    """Writes the rows of an entry, and their statistics."""
    batches = iter(batches)
    first = next(batches)
    schema = pa.schema([(name, arrow_type(values[0])) for name, values in first[0].items()])
    with open(directory / "rows.arrow", "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for rows, statistics in chain([first], batches):  # noqa: B007  (the last ones stay)
            writer.write_batch(pa.record_batch(rows, schema=schema))
    (directory / "about.json").write_text(json.dumps(statistics), encoding="utf-8")
