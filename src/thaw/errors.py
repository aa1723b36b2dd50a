"""The error that a user can mend."""

import errno
from collections.abc import Iterable
from typing import Any

# Of the operating system, where a path cannot be written.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


class ThawError(Exception):
    """A user's mistake: the message says what was got, what was expected and what to type."""


def require_choice(option: str, value: Any, known: Iterable[Any]) -> None:
    """Raises ThawError unless the value of an option is one of those known; None is null."""
    if value not in (known := list(known)):
        choices = ", ".join("null" if choice is None else str(choice) for choice in known)
        raise ThawError(f"{option}={value}: expected one of {choices}.")


def is_disk_error(error: BaseException) -> bool:
    """Returns whether a write failed for lack of room or permission, as torch.save reports it
    too."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in UNWRITABLE
    text = str(error)
    written = ("PytorchStreamWriter", "unexpected pos", "No space left", "Permission denied")
    return any(part in text for part in written)
