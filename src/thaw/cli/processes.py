"""Finds the processes of a run that torchrun or srun started: they share one run directory.

Each of them composes the config by itself, so the name of a run must not follow from the clock
and the random numbers of one process. (Lightning tells the processes that it starts the directory.)

Torch is imported only under torchrun and when a run of several processes ends.
"""

import os
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from omegaconf import DictConfig

from thaw.errors import ThawError

WAIT = timedelta(minutes=10)  # until the first process has started, on a slow file system too


@dataclass(frozen=True)
class Launch:
    """How this process was started as one of several."""

    by: str  # torchrun or srun
    rank: int  # index of this process among all
    world_size: int  # number of processes


def launch(environ: Mapping[str, str] = os.environ) -> Launch | None:
    """Returns how this process was started, None if not as one of several. The variables of
    torchrun come first, as it may run under srun."""
    if "TORCHELASTIC_RUN_ID" in environ:
        return Launch("torchrun", int(environ["RANK"]), int(environ["WORLD_SIZE"]))
    if "SLURM_PROCID" in environ and int(environ.get("SLURM_NTASKS", "1")) > 1:
        return Launch("srun", int(environ["SLURM_PROCID"]), int(environ["SLURM_NTASKS"]))
    return None


def slurm_job(environ: Mapping[str, str] = os.environ) -> str | None:
    """Returns the id of SLURM's batch job that this process is of, by which `scontrol` knows it;
    None: there is none, or an interactive one."""
    if environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    if "SLURM_ARRAY_JOB_ID" in environ:
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ.get("SLURM_JOB_ID")


def requeue(job: str) -> str | None:
    """Requeues a job of SLURM, and returns why it was not requeued, None if it was."""
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    except OSError as error:
        return f"scontrol cannot be run: {error.strerror}"
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else None


def stamp() -> str:
    """Returns `<date>/<time>-<random>`, the same in all processes of a run: `${thaw.stamp:}`.

    torchrun's agents hold a store that all processes reach; the first one writes its stamp there.
    Under srun the number of the job step replaces the time.
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
    """Returns a value in the process that writes, None in the others: `${thaw.first_only:...}`."""
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


def finish_process_group() -> None:
    """Ends the process group, whose threads may else abort a process that exits; where another
    program started the processes, waits before until the first one has written."""
    import torch

    if torch.distributed.is_initialized():
        if launch() is not None:
            torch.distributed.barrier()
        torch.distributed.destroy_process_group()
