"""Where downloads and computed files are kept, and what to say when the disk refuses them."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thaw.errors import ThawError


def cache_dir() -> Path:
    """Returns `$THAW_CACHE`, else `$XDG_CACHE_HOME/thaw`, else `~/.cache/thaw`.

    Raises:
        ThawError: it is to be below the home directory of a user who has none.
    """
    try:
        if own := os.environ.get("THAW_CACHE"):
            return Path(own).expanduser().absolute()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thaw"
    except RuntimeError as error:  # a container's user, whose number has no name
        raise ThawError(
            "this user has no home directory to keep models and tokens in (HOME is not set): "
            "THAW_CACHE=<directory> names another place."
        ) from error


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
