"""Where metrics go besides the run directory."""

import logging
import netrc
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from thaw.redact import redacted_argv

log = logging.getLogger(__name__)


def wandb_logger(save_dir: str, log_model: bool = False, **kwargs: Any) -> WandbLogger:
    """Weights & Biases: offline unless `WANDB_MODE`, an API key or a login says otherwise.

    Args:
        save_dir: the run directory.
        log_model: whether the exported model becomes an artifact at the end.
        kwargs: of `lightning.pytorch.loggers.WandbLogger`.
    """
    mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    logger = LateWandb(save_dir=save_dir, offline=mode == "offline", mode=mode, **kwargs)
    logger.log_exported_model = log_model
    return logger


class LateWandb(WandbLogger):
    """Starts its W&B run when the first numbers come, not before the first step: importing and
    starting W&B takes 1.5 seconds.

    Args:
        mode: of W&B: online, offline, disabled.
        options: of `lightning.pytorch.loggers.WandbLogger`.

    Attributes:
        log_exported_model: whether the run's model/ is sent; Lightning's own `log_model` would send
            checkpoints.
    """

    log_exported_model = False

    def __init__(self, mode: str, **options: Any) -> None:
        super().__init__(**options)
        self.mode = mode
        self.waiting: list[Any] = []

    def log_hyperparams(self, params: Any) -> None:
        if self._experiment is None:
            self.waiting.append(params)
        else:
            super().log_hyperparams(params)

    @property
    def experiment(self) -> Any:
        """The run; see WandbLogger."""
        if self._experiment is not None or rank_zero_only.rank:  # type: ignore[attr-defined]
            return super().experiment
        if sys._getframe(1).f_code.co_name == "_call_setup_hook":
            # There Lightning starts every logger that has one, before the first step.
            raise AttributeError("W&B starts with the first numbers")
        with redacted_argv():  # W&B keeps the command line
            run = self.started()
        for params in self.waiting:
            super().log_hyperparams(params)
        return run

    def started(self) -> Any:
        """The run, started; offline where W&B cannot be reached or refuses the key: training goes
        on."""
        import wandb

        self._wandb_init["settings"] = wandb_settings(self.mode)
        try:
            return super().experiment
        except (wandb.Error, ValueError) as error:
            if self.mode == "offline":
                raise
            reason = str(error).splitlines()[0][:200]
            log.warning(
                "W&B does not take this run (%s): it is kept in %s/wandb, and `wandb sync` uploads "
                "it later", reason, self.save_dir,
            )  # fmt: skip
        self.mode = "offline"
        wandb.teardown()
        self._wandb_init["settings"] = wandb_settings(self.mode)
        return super().experiment


def wandb_settings(mode: str) -> Any:
    """W&B without prompts, code and the terminal's output."""
    import wandb

    settings = wandb.Settings(
        mode=mode,  # type: ignore[arg-type]
        console="off",
        quiet=True,
        silent=mode == "offline",
        save_code=False,
        disable_git=True,
        # 90 by default: what a run waits for before it goes on without.
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", 20)),
    )
    if mode == "offline":
        # Lightning passes an argument that W&B warns of before it reads a run's settings.
        wandb.setup(settings)
    return settings


def has_key() -> bool:
    """Whether W&B finds an API key in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
