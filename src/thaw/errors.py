"""The one kind of error that a user can mend."""


class ThawError(Exception):
    """A user's mistake: the message says what was got, what was expected and what to type."""
