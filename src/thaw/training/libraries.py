"""Sets up libraries before a run: imports and silences them, and keeps freed memory."""

import ctypes
import gc
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def garbage_kept() -> Iterator[None]:
    """Imports without the garbage collector, which would look through all that modules define again
    and again: it takes a quarter of the time of importing torch and a model of transformers."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


QUIET = ("lightning.pytorch", "lightning.fabric", "httpx", "matplotlib", "sentence_transformers")


def keep_freed_memory() -> None:
    """Lets glibc keep the memory that a step frees for the next step.

    By default it returns each large tensor to the system, which clears the pages again: some 11,000
    page faults in a step of MiniLM, a tenth of its time. The peak of a run is the same; what an
    earlier run of this process left is given back first, as pieces of other sizes fit badly.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never


def in_notebook() -> bool:
    """Returns whether this process is the kernel of a notebook, not one that merely has Jupyter."""
    ipython = sys.modules.get("IPython")
    return "ipykernel" in sys.modules and ipython is not None and ipython.get_ipython() is not None


def silence_libraries() -> None:
    """Silences messages at every start that a user cannot act on."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # not imported for its bars
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", ".*dataloader is not resumable.*")  # its datamodule is
    warnings.filterwarnings("ignore", ".*recommended to use `self.log.*sync_dist.*")
    warnings.filterwarnings("ignore", ".*exists and is not empty.*")
    warnings.filterwarnings("ignore", ".*across ranks is zero.*")  # of a split that is not there
    warnings.filterwarnings("ignore", "Metric `SpearmanCorrcoef` will save all targets.*")
    warnings.filterwarnings("ignore", ".*overridden `on_before_batch_transfer`.*")
