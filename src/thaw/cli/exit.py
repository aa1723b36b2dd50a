"""Turns a user's mistake into a message and exit code 2."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf.errors import OmegaConfBaseException

from thaw.cli.compose import explain, hydras_own, unreadable
from thaw.cli.secrets import redacted_text
from thaw.errors import UNWRITABLE, ThawError


@contextmanager
def exit_clearly() -> Iterator[None]:
    """Turns a user's mistake into a message and exit code 2; other errors keep a traceback."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print and exit before we can say more
    from hydra.errors import HydraException

    try:
        yield
    except ThawError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(explain(error))
    except (AssertionError, LookupError, TypeError, ValueError) as error:
        if not hydras_own(error):
            raise
        fail(unreadable(sys.argv[1:], error))
    except OSError as error:
        # Hydra makes the run directory and its log before a run begins.
        if error.filename is None or error.errno not in UNWRITABLE:
            raise
        fail(f"{error.filename}: {error.strerror}. hydra.run.dir=<directory> names another place.")


def fail(message: str) -> None:
    """Prints an error and exits with code 2."""
    print(f"\nthaw: {redacted_text(message)}", file=sys.stderr)
    sys.exit(2)
