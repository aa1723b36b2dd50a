"""Parquet files, and directories of `datasets.save_to_disk`, with the names of their classes."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from thaw.data.read.header import check_names
from thaw.data.read.reading import Reading
from thaw.errors import ThawError

BATCH = 4096
SAVED = ("dataset_info.json", "state.json")
SAVED_SPLITS = "dataset_dict.json"


def parquet_rows(path: Path, part: str | None, how: Reading) -> Iterator[dict[str, Any]]:
    """Yields rows of Parquet, with classes by the names that the file's schema has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # By default a whole row group is held: 103 MB of a file with one of 100 MB, here 10 MB.
        with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            schema = file.schema_arrow
            check_names(path, schema.names)
            names = class_names(schema.metadata or {})
            for batch in file.iter_batches(batch_size=BATCH):
                yield from with_names(batch.to_pylist(), names, str(path))
    except (pa.ArrowException, OSError) as error:
        raise ThawError(f"{path} cannot be read as Parquet, is it damaged? {error}") from error


def saved_rows(path: Path, part: str | None, how: Reading) -> Iterator[dict[str, Any]]:
    """Yields rows of a directory of `datasets.save_to_disk`, mapped into memory."""
    if (path / SAVED_SPLITS).is_file():
        splits = json.loads((path / SAVED_SPLITS).read_text("utf-8")).get("splits", [])
        if part is None or part not in splits:
            example = splits[0] if splits else "train"
            raise ThawError(
                f"{path} holds the splits {', '.join(splits)}: name one, such as {path / example}."
            )
        path = path / part
    from datasets import load_from_disk

    try:
        data = load_from_disk(str(path))
    except Exception as error:  # pyarrow, json, KeyError: whatever a damaged directory leads to
        raise ThawError(
            f"{path} cannot be read as a data set of save_to_disk, is it damaged? {error}"
        ) from error
    yield from with_names(data, names_of_features(data.features), str(path))


def class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Returns names of the classes of each column, from what `datasets` writes into a schema."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        inner = {k: inner_feature(f) for k, f in features.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {
        k: list(map(str, f["names"]))
        for k, f in inner.items()
        if f.get("_type") == "ClassLabel" and isinstance(f.get("names"), list)
    }


def inner_feature(feature: Any) -> Any:
    """Returns the feature of a list's values, as datasets 1 to 5 write it; else the feature."""
    while not isinstance(feature, dict) or "feature" in feature:
        feature = feature[0] if isinstance(feature, list) else feature["feature"]
    return feature


def names_of_features(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns names of the classes of each column of a `datasets.Dataset`."""
    inner = {k: getattr(f, "feature", f) for k, f in features.items()}
    return {k: list(f.names) for k, f in inner.items() if hasattr(f, "int2str")}


def with_names(
    rows: Iterable[dict[str, Any]], names: Mapping[str, list[str]], origin: str
) -> Iterator[dict[str, Any]]:
    """Yields rows with the names of classes for their numbers, in lists too; -1 becomes None."""
    for number, row in enumerate(rows, start=1):
        for column, classes in names.items():
            value = row.get(column)
            try:
                if isinstance(value, list):
                    row[column] = [name_of(v, classes) for v in value]
                else:
                    row[column] = name_of(value, classes)
            except (IndexError, TypeError):
                raise ThawError(
                    f"{origin}: row {number}: {column} is {value!r:.60}, and its classes are "
                    f"0 to {len(classes) - 1} ({', '.join(classes[:5])}, ...)."
                ) from None
        yield row


def name_of(value: Any, classes: list[str]) -> str | None:
    """Returns the name of a class's number."""
    return None if value is None or value == -1 else classes[value]
