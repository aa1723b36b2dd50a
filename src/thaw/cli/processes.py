"""The processes of a run that torchrun or srun started: they share one run directory.

Each of them composes the config by itself, so what a run is called must not follow from its own
clock and its own random numbers. (Processes that Lightning starts are told the directory.)

No torch here, but where torchrun is at work.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from omegaconf import DictConfig

from thaw.errors import ThawError

WAIT = timedelta(minutes=10)  # for the first process to come up, on a slow file system too


@dataclass(frozen=True)
class Launch:
    """Who started this process as one of several.

    Attributes:
        by: torchrun or srun.
        rank: of this process among all.
        world_size: how many they are.
    """

    by: str
    rank: int
    world_size: int


def launch(environ: Mapping[str, str] = os.environ) -> Launch | None:
    """How this process was started, None if not as one of several.

    Args:
        environ: the environment. torchrun goes before srun, as it may run within it.
    """
    if "TORCHELASTIC_RUN_ID" in environ:
        return Launch("torchrun", int(environ["RANK"]), int(environ["WORLD_SIZE"]))
    if "SLURM_PROCID" in environ and int(environ.get("SLURM_NTASKS", "1")) > 1:
        return Launch("srun", int(environ["SLURM_PROCID"]), int(environ["SLURM_NTASKS"]))
    return None


def stamp() -> str:
    """`<date>/<time>-<random>` of a run, the same in all of its processes: `${thaw.stamp:}`.

    torchrun's agents hold a store that all processes reach; the first one leaves its stamp there.
    Under srun the number of the job step stands for the time.
    """
    found = launch()
    if found is not None and found.by == "srun":
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
        return "slurm-" + "-".join(os.environ[name] for name in names if name in os.environ)
    own = f"{datetime.now():%Y-%m-%d/%H-%M-%S}-{secrets.token_hex(3)}"
    if found is None or found.world_size == 1:
        return own
    from torch.distributed import TCPStore

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False, timeout=WAIT)
    key = f"thaw/stamp/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if found.rank == 0:
        store.set(key, own)
    return store.get(key).decode()


def first_only(value: str) -> str | None:
    """A value in the process that writes, None in the others: `${thaw.first_only:...}`."""
    found = launch()
    return value if found is None or found.rank == 0 else None


def require_world(cfg: DictConfig) -> None:
    """Raises ThawError unless the config asks for as many processes as were started."""
    found, trainer = launch(), cfg.trainer
    if found is None:
        if trainer.num_nodes > 1:
            raise ThawError(
                f"trainer.num_nodes={trainer.num_nodes}: start it on each machine with torchrun or "
                "srun, as docs/cluster.md shows."
            )
        return
    devices = str(trainer.devices)
    if devices.isdigit() and int(devices) * trainer.num_nodes != found.world_size:
        raise ThawError(
            f"{found.by} started {found.world_size} processes, but trainer.devices={devices} times "
            f"trainer.num_nodes={trainer.num_nodes} is {int(devices) * trainer.num_nodes}: "
            "trainer.devices is the number of processes on a machine."
        )


def leave() -> None:
    """Waits until the first process has written, and lets go of the others."""
    import torch

    if launch() is not None and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
