"""Logs to Comet, offline where there is no API key."""

import logging
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CometLogger

from thaw.storage.files import write_atomic

# A warning at every start, about automatic logging, which is off here.
LATE = "import comet_ml before"
logging.getLogger("comet_ml.experiment").addFilter(lambda record: LATE not in str(record.msg))
OFF = ("log_code", "log_git_metadata", "log_git_patch", "log_env_details", "auto_param_logging")


class Comet(CometLogger):
    """Lightning's CometLogger, which a resumed run goes on with; without an API key, or with
    `COMET_START_ONLINE=false`, it writes an archive for `comet upload` into the run directory.
    (Lightning's `online=False` turns Comet off instead.)

    Args:
        save_dir: run directory, which keeps the key of the experiment, and archives.
        options: options of `lightning.pytorch.loggers.CometLogger`.
    """

    def __init__(self, save_dir: str, **options: Any) -> None:
        kept = Path(save_dir) / "comet_id.txt"
        resumed = kept.exists() and (Path(save_dir) / "versions.json").exists()
        own: dict[str, Any] = dict.fromkeys([*OFF, "parse_args", "auto_output_logging"], False)
        own |= {
            "offline_directory": str(Path(save_dir) / "comet"),
            "mode": "create",
            "display_summary_level": 0,
        }
        if resumed:
            own |= {"mode": "get", "experiment_key": kept.read_text(encoding="utf-8")}
        if not has_key():
            os.environ.setdefault("COMET_START_ONLINE", "false")
        super().__init__(**own | options)
        if self._experiment is not None and not resumed:  # in the first process
            write_atomic(kept, str(self.version))


def has_key() -> bool:
    """Returns whether Comet finds an API key in the environment or in ~/.comet.config."""
    try:
        from comet_ml.config import get_config
    except ModuleNotFoundError:
        return False  # Lightning's logger says so
    return bool(get_config("comet.api_key"))
