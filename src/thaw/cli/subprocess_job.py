"""Runs a job of a sweep that takes several devices as a process of its own.

Lightning starts the other processes of a run with the command line of the first; with `-m` in it,
each of them would sweep again (lightning#11300).
"""

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
from omegaconf import DictConfig

from thaw.cli.conf import own_dirs, search_path
from thaw.cli.overrides import key_of, quote
from thaw.errors import ThawError
from thaw.storage.files import read_json


def takes_processes(cfg: DictConfig) -> bool:
    """Returns whether a run may have more than one process."""
    return str(cfg.trainer.devices) != "1" or cfg.trainer.num_nodes > 1


def run_apart(cfg: DictConfig) -> float | None:
    """Runs a job of a sweep as `python -m thaw.start` with the overrides of the job. Returns the
    watched metric, None if it was not measured; raises ThawError with the message of a job that
    failed."""
    directory = Path(cfg.run_dir).absolute()
    overrides = [o for o in HydraConfig.get().overrides.task if key_of(o) != "resume"]
    if cfg.resume is not None and (directory / "versions.json").exists():
        overrides.append(f"resume={quote(directory)}")
    # An experiment may ask for a sweep: not again here.
    overrides += ["hydra.mode=RUN", f"hydra.run.dir={quote(directory)}"]
    command = [sys.executable, "-m", "thaw.start", *overrides, *search_path(own_dirs())]
    # Line by line: its errors are seen while it runs, and the reason of a failure is kept.
    last_lines: deque[str] = deque(maxlen=100)
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=os.getcwd()) as process,
        signals_passed_on(process) as received,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
            last_lines.append(line)
    if received:
        raise SystemExit(128 + received[0])
    if process.returncode:
        raise ThawError(failure_of(list(last_lines), process.returncode))
    return read_json(directory / "metrics.json").get(cfg.monitor)


@contextmanager
def signals_passed_on(process: subprocess.Popen) -> Iterator[list[int]]:
    """Passes SIGTERM and Ctrl-C on to a process, which saves and ends; a second one kills it.
    Yields the signals received.

    Ctrl-C reaches both processes, so it is passed on as SIGTERM, which a process that is stopping
    already ignores.
    """
    received: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        received.append(number)
        process.send_signal(signal.SIGTERM if len(received) == 1 else signal.SIGKILL)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {n: signal.signal(n, pass_on) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def failure_of(lines: list[str], code: int) -> str:
    """Returns why a command failed: the message of thaw, else the last line."""
    starts = [i for i, line in enumerate(lines) if line.startswith("thaw: ")]
    if code == 2 and starts:
        return "".join(lines[starts[-1] :]).removeprefix("thaw: ").strip()
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}: {last}"
