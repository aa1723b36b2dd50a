"""Finds splits and columns of a data set on the Hub, where there is one sensible choice."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thaw.errors import ThawError

log = logging.getLogger(__name__)

AUTO = "auto"
NAMELESS = "owner/name"  # of conf/data/hub.yaml
VALIDATION = ("validation", "valid", "val", "dev")
WORDS = ["tokens", "words"]  # what columns of words are called
HELD_OUT = 0.1  # of train, where no split is for validation


def choices_on_hub(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of data that are `auto`, as they are found on the Hub, but for those that
    the task does not read; raises ThawError if no choice is sensible, or several are, or the Hub
    does not give the data set."""
    asked, path = [key for key, value in data.items() if value == AUTO], data["path"]
    if not asked or not isinstance(path, str) or Path(path).expanduser().is_dir():
        return {}  # a column of a file may be called so
    if path == NAMELESS:
        raise ThawError("data=hub needs data.path=owner/name, such as data.path=stanfordnlp/imdb.")
    from thaw.storage.hub import hub_splits, load_hub_dataset

    source = (path, data.get("config"), data.get("revision"))
    found = chosen_splits(path, hub_splits(*source))
    splits = {key: found[key] if data[key] == AUTO else data[key] for key in found}
    stream = bool(data.get("streaming"))
    features = features_of(load_hub_dataset(*source, splits["train"], streaming=stream))
    found |= chosen_columns(path, data, features)
    label = found.get("label", data.get("label"))
    if "test" in asked and splits["test"] and hasattr(features.get(str(label)), "int2str"):
        numbers = load_hub_dataset(*source, splits["test"]).unique(label)
        if set(numbers) <= {-1, None}:
            found["test"] = None
            log.warning(
                f"data.path={path}: nobody labelled its split test, so nothing is tested; "
                f"data.test={found['validation']} data.validation={HELD_OUT} tests on the split "
                "that would validate"
            )
    out = {key: found[key] for key in asked if key in found}
    words = " ".join(f"data.{k}={'null' if v is None else v}" for k, v in out.items())
    log.info("data.path=%s: found %s", path, words)
    return out


def chosen_splits(path: str, there: Sequence[str]) -> dict[str, Any]:
    """Returns what to train on, to validate and to test with, given the names of splits."""
    train = "train" if "train" in there or len(there) != 1 else there[0]
    if train not in there:
        raise ThawError(
            f"data.path={path} has no split train; it has {', '.join(there)}. Type data.train=, "
            "data.validation= and data.test= with one of them each, or null."
        )
    validation = next((name for name in VALIDATION if name in there), HELD_OUT)
    return {"train": train, "validation": validation, "test": "test" if "test" in there else None}


def features_of(rows: Any) -> Mapping[str, Any]:
    """Returns the types of the columns of a `datasets.Dataset`, or of one that is streamed."""
    if rows.features is not None:
        return rows.features
    from datasets import Dataset

    return Dataset.from_list([next(iter(rows))]).features


def chosen_columns(
    path: str, data: Mapping[str, Any], features: Mapping[str, Any]
) -> dict[str, str]:
    """Returns the columns of the options that are `auto`, other than those that are named."""
    kinds = {name: kind_of(feature) for name, feature in features.items()}
    taken = [str(data[key]) for key in ("text", "label", "tokens", "tags") if key in data]
    found = {}
    # task=ner reads words where there are words, and task=mlm where there is no text beside them.
    named = "text" not in kinds and any(kinds.get(name) == "list of texts" for name in WORDS)
    words = "tokens" in data and ("tags" in data or named)
    for key, wanted, names in (
        ("label", ["labels"], ["label", "labels"]),
        ("tokens", ["list of texts"], WORDS),
        ("tags", ["list of labels", "list of texts"], ["ner_tags", "tags", "ner", "labels"]),
        ("text", ["text"], ["text"]),
    ):
        if data.get(key) != AUTO:
            continue
        if key == ("text" if words else "tokens"):
            found[key] = key
            continue
        free = [name for name in kinds if name not in taken]
        fits = next((f for kind in wanted if (f := [n for n in free if kinds[n] == kind])), [])
        if len(fits) != 1:
            fits = [n for n in names if n in (fits or free)][:1] or fits
        if len(fits) != 1:
            columns = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            several = f"{' and '.join(fits)} could be" if fits else "no column is"
            pair = f", or data.text=[{','.join(fits[:2])}] for pairs" if key == "text" else ""
            raise ThawError(
                f"data.path={path}: {several} data.{key}. It has the columns {columns}. "
                f"Type data.{key}=<column>{pair if len(fits) > 1 else ''}."
            )
        found[key] = fits[0]
        taken += fits
    return found


def kind_of(feature: Any) -> str:
    """Returns what a column of this type holds, for people."""
    inner = getattr(feature, "feature", feature)
    kind = "labels" if hasattr(inner, "int2str") else str(getattr(inner, "dtype", "other"))
    kind = "text" if kind.endswith("string") else kind
    many = {"text": "texts", "labels": "labels"}.get(kind, f"{kind} values")
    return kind if inner is feature else f"list of {many}"
