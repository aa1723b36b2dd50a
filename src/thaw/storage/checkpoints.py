"""Finds a model directory: on this disk, in wheels on the package index, or on the Hub."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thaw.errors import ThawError
from thaw.storage.hub import hub_errors, require_repository
from thaw.storage.wheels import fetch_wheels

HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]
# Their `*` crosses slashes. Directories with a number are sentence-transformers' modules
# (1_Pooling); others hold the same weights again (onnx, openvino, checkpoint-500).
NOT_HUB_FILES = ["[!0-9]*/*"]


def fetch_model(checkpoint: str | Mapping[str, Any] | None, revision: str | None = None) -> Path:
    """Returns a model directory with `config.json` and safetensors.

    Args:
        checkpoint: directory, `{wheels: ..., member: ...}` with or without `hub`, its name on the
            Hub, or `owner/name` on the Hub.
        revision: branch, tag or commit on the Hub.

    Raises:
        ThawError: the checkpoint does not exist or has no safetensors, or the Hub cannot be
            reached.
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
            checkpoint, revision=revision, allow_patterns=HUB_FILES, ignore_patterns=NOT_HUB_FILES
        )
    return checked_model(Path(path), checkpoint)


def require_model(checkpoint: str | Mapping[str, Any] | None) -> None:
    """Raises ThawError unless a checkpoint is on this disk, or has a name that can be fetched."""
    if not checkpoint:
        raise ThawError("model.checkpoint=<directory or owner/name> must be given.")
    if isinstance(checkpoint, Mapping):
        if set(checkpoint) - {"hub"} != {"wheels", "member"}:
            raise ThawError(
                f"model.checkpoint: got [{', '.join(checkpoint)}], expected [wheels, member]."
            )
    elif Path(checkpoint).expanduser().is_dir():
        checked_model(Path(checkpoint).expanduser())
    else:
        require_repository(checkpoint, "model.checkpoint", "model")


def checked_model(path: Path, repository: str | None = None) -> Path:
    """Returns a model directory; raises ThawError unless it has a config, and safetensors as its
    only weights."""
    if not (path / "config.json").exists():
        if (path / "model" / "config.json").exists():
            word = shlex.quote(f"model.checkpoint={path / 'model'}")
            raise ThawError(f"{path} is a run directory; its model is in it: {word}.")
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
