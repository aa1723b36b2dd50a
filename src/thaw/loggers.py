"""Where metrics go besides the run directory."""

import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger


def wandb_logger(save_dir: str, **kwargs: Any) -> WandbLogger:
    """Weights & Biases: offline unless `WANDB_MODE`, an API key or a login says otherwise.

    Args:
        save_dir: the run directory.
        kwargs: of `lightning.pytorch.loggers.WandbLogger`.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    settings = wandb.Settings(
        mode=mode,  # type: ignore[arg-type]
        console="off",
        quiet=True,
        silent=mode == "offline",
        save_code=False,
        disable_git=True,
    )
    if mode == "offline":
        # Lightning passes an argument that W&B warns of before it reads a run's settings.
        wandb.setup(settings)
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    return WandbLogger(save_dir=save_dir, offline=mode == "offline", settings=settings, **kwargs)


def has_key() -> bool:
    """Whether W&B finds an API key in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
