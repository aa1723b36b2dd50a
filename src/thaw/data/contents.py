"""What a run's data was, so that a run which goes on with other data is refused."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thaw.data.read.labels.names import listed
from thaw.errors import ThawError

ENDS = 2**20  # bytes at each end of a file that is too large to be read for its hash


def contents_of_path(path: Path) -> dict[str, Any]:
    """Returns size and hash of a file, or of a folder's files, from their names and their ends."""
    state, size = hashlib.sha256(), 0
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        length = file.stat().st_size
        state.update(f"{file.relative_to(path)} {length}".encode("utf-8", "surrogateescape"))
        with open(file, "rb") as raw:
            state.update(raw.read(ENDS))
            raw.seek(max(0, length - ENDS))
            state.update(raw.read(ENDS))
        size += length
    return {"bytes": size, "hash": state.hexdigest()[:32]}


def require_same_contents(
    began: Mapping[str, Any], now: Mapping[str, Any], sources: Mapping[str, Any]
) -> None:
    """Raises ThawError unless a run goes on with the data that it began with: the same `labels`,
    and `splits` with `rows` or `bytes` and `hash` of each."""
    changes = []
    for split in dict.fromkeys([*began["splits"], *now["splits"]]):
        before, after = began["splits"].get(split), now["splits"].get(split)
        if before == after:
            continue
        sizes = [amount(before), amount(after)]
        if sizes[0] == sizes[1]:
            was, is_now = (str(contents["hash"])[:8] for contents in (before, after))
            changes.append(
                f"{split} had {sizes[0]} and has as many, of other content or in another order "
                f"(hash {was}, now {is_now})"
            )
        else:
            changes.append(f"{split} had {sizes[0]}, and now has {sizes[1]}")
    if began["labels"] != now["labels"]:
        changes.append(
            f"labels were {listed(began['labels'])}, and now are {listed(now['labels'])}"
        )
    if changes:
        files = ", ".join(f"data.{k}={v}" for k, v in sources.items() if isinstance(v, str))
        raise ThawError(
            f"this run began with other data: {'; '.join(changes)}. To go on, make {files} what "
            "it was again; with the data as it is now it is a new run: instead of resume= type the "
            "options that this one was started with (.hydra/overrides.yaml in its directory)."
        )


def amount(contents: Mapping[str, Any] | None) -> str:
    """How much a split holds, for people."""
    if contents is None:
        return "nothing"
    unit = "rows" if "rows" in contents else "bytes"
    return f"{contents[unit]:,} {unit}"
