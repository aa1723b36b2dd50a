"""The one kind of error that a user can mend, and what of the system's becomes one."""

import errno

# Of the operating system, where a place cannot be written.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


class ThawError(Exception):
    """A user's mistake: the message says what was got, what was expected and what to type."""
