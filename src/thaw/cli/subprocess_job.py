"""A job of a sweep that takes several devices, as a process of its own.

Lightning starts the other processes of a run with the command line of the first; with `-m` in it,
each of them would sweep again (lightning#11300).
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from thaw.cli.conf import conf_dir, own_dirs, search
from thaw.cli.processes import launch
from thaw.cli.resume import quoted
from thaw.errors import ThawError


def takes_processes(cfg: DictConfig) -> bool:
    """Whether a run may have more than one process."""
    return str(cfg.trainer.devices) != "1" or cfg.trainer.num_nodes > 1


def runs_apart(cfg: DictConfig) -> bool:
    """Whether this is a job of a sweep whose processes must not see the sweep's command line.

    They do not where a launcher such as submitit has started all of them.
    """
    alone = launch() is None
    return HydraConfig.get().mode == RunMode.MULTIRUN and takes_processes(cfg) and alone


def run_apart(cfg: DictConfig) -> float | None:
    """Runs a job of a sweep as `python train.py` with the words that are left of it.

    Returns:
        The watched metric.

    Raises:
        ThawError: the job failed; the message is its own.
    """
    directory = Path(cfg.run_dir).absolute()
    words = [w for w in HydraConfig.get().overrides.task if not w.startswith("resume=")]
    if cfg.resume is not None and (directory / "versions.json").exists():
        words.append(f"resume={quoted(directory)}")
    # An experiment may ask for a sweep: not again here.
    command = [
        sys.executable,
        str(conf_dir().parent / "train.py"),
        *words,
        *search(own_dirs()),
        "hydra.mode=RUN",
        f"hydra.run.dir={quoted(directory)}",
    ]
    # Line by line: what it says is seen while it runs, and the reason of a failure is kept.
    said: deque[str] = deque(maxlen=100)
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=os.getcwd()) as process,
        passed_on(process) as asked,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
            said.append(line)
    if asked:
        raise SystemExit(128 + asked[0])
    if process.returncode:
        raise ThawError(reason_of(list(said), process.returncode))
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    return metrics.get(cfg.monitor)


@contextmanager
def passed_on(process: subprocess.Popen) -> Iterator[list[int]]:
    """Has a process end, after it has saved, when this one is asked to; a second time at once.

    Yields:
        The signals that came. Ctrl-C reaches both processes, so it is passed on as SIGTERM, which
        one that stops already does not mind.
    """
    asked: list[int] = []

    def hear(number: int, frame: object) -> None:
        asked.append(number)
        process.send_signal(signal.SIGTERM if len(asked) == 1 else signal.SIGKILL)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {n: signal.signal(n, hear) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def reason_of(said: list[str], code: int) -> str:
    """Why a command failed: thaw's message, else the last line that it said.

    Args:
        said: the end of its standard error.
        code: its exit code.
    """
    starts = [i for i, line in enumerate(said) if line.startswith("thaw: ")]
    if code == 2 and starts:
        return "".join(said[starts[-1] :]).removeprefix("thaw: ").strip()
    last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}: {last}"
