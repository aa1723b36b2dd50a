"""`python ...` from a process that has imported its libraries already.

Importing torch, Lightning and transformers takes most of the time of a tiny run. A server imports
them once and forks for each command. The fork has the arguments, the environment, the directory,
the output and the exit code of a process of its own. With `trainer.devices=2`, so are the Python
processes that it starts (a job of a sweep, a second rank): see `Spare`; all others are true
processes. tests/runs/test_wheel.py starts a true run with two devices.
"""

import atexit
import errno
import gc
import hashlib
import importlib
import json
import os
import runpy
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, ClassVar

import yaml

REPOSITORY = Path(__file__).parents[2]
# Loaded before a command line is checked, and by a run. Without W&B: its import makes a directory
# that the first fork to end would delete.
FOR_CHECKS = (
    *("thaw.start", "thaw.cli.check", "thaw.cli.subprocess_job", "thaw.cli.reference.help"),
    *("thaw.report.sweep", "hydra.core.utils", "hydra._internal.utils", "omegaconf._impl"),
    *("hydra._internal.core_plugins.basic_sweeper", "antlr4.LL1Analyzer", "importlib.metadata"),
)
FOR_RUNS = (
    *FOR_CHECKS,
    *("lightning.pytorch", "torchmetrics.classification", "datasets", "sklearn.metrics"),
    *("thaw.train", "thaw.evaluate", "thaw.adapt", "thaw.tasks.sequence", "thaw.data.sequence"),
    *("transformers.models.bert.modeling_bert", "transformers.models.bert.tokenization_bert"),
    *("thaw.report.run", "matplotlib.backends.backend_svg", "pandas"),
)
FOR_PREDICTIONS = (
    *("thaw.predict", "thaw.model", "thaw.tasks.predictors.base", "thaw.encoder.load"),
    *("transformers.models.bert.modeling_bert", "transformers.models.bert.tokenization_bert"),
)
NO_FIGURES = "THAW_TEST_NO_FIGURES"
SERVERS: dict[str, socket.socket] = {}


def python(
    *words: str | Path,
    cwd: Path = REPOSITORY,
    env: dict[str, str] | None = None,
    modules: tuple[str, ...] = FOR_RUNS,
    before: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs `python words...` in a fork of a process that has imported `modules`.

    Args:
        words: a script, `-m` and a module, or `-c` and code; then its arguments.
        cwd: working directory.
        env: variables beside those of this process.
        modules: what is imported before.
        before: all variables of the process that imports them, and of this one; None: those of
            this process. For what reads its variables when it is imported.
    """
    return side_by_side([(words, env or {})], cwd, modules, before)[0]


def new_python(
    *words: str | Path, cwd: Path = REPOSITORY, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `python words...` in a new process, for what may not be at ease in a fork."""
    command = [sys.executable, *map(str, words)]
    variables = {**os.environ, **(env or {})}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True)


def side_by_side(
    commands: Sequence[tuple[Sequence[str | Path], Mapping[str, str]]],
    cwd: Path = REPOSITORY,
    modules: tuple[str, ...] = FOR_RUNS,
    before: dict[str, str] | None = None,
) -> list[subprocess.CompletedProcess[str]]:
    """Runs several commands at once, each of words and variables as in `python`."""
    key = json.dumps([modules, before])
    if key not in SERVERS:
        SERVERS[key] = connect(key, modules, before)
    server = SERVERS[key]
    requests = [
        {"words": [*map(str, words)], "cwd": str(cwd), "env": {**(before or os.environ), **env}}
        for words, env in commands
    ]
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2 * len(requests))]
        streams = [file.fileno() for file in files]
        socket.send_fds(server, [json.dumps(requests).encode()], streams)
        codes = json.loads(server.recv(2**10) or "null")
        if codes is None:
            raise RuntimeError("the server of helpers/warm.py has ended")
        said = [text(file) for file in files]
    return [
        subprocess.CompletedProcess(request["words"], code, out, errors)
        for request, code, out, errors in zip(requests, codes, said[::2], said[1::2], strict=True)
    ]


def text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8").replace("\r\n", "\n")


def connect(key: str, modules: tuple[str, ...], env: dict[str, str] | None) -> socket.socket:
    """Connects to the server of all workers of pytest; the first one that asks starts it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    path = Path(tempfile.gettempdir(), f"thaw-{run}", hashlib.sha256(key.encode()).hexdigest()[:9])
    for _ in range(100):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            try:
                listener.bind(str(path))
                start(listener, modules, env)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with suppress(ConnectionError, FileNotFoundError):  # it has just been bound, or it ends
            connection.connect(str(path))
            if connection.recv(1):
                return connection
        connection.close()
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens at {path}")


def start(listener: socket.socket, modules: tuple[str, ...], env: dict[str, str] | None) -> None:
    """Starts a server, which ends when all that are connected to it have ended."""
    listener.listen()
    command = [sys.executable, __file__, str(listener.fileno()), *modules]
    subprocess.Popen(command, cwd=REPOSITORY, env=env, pass_fds=[listener.fileno()])


def accept(listener: socket.socket) -> socket.socket:
    """Forks for each worker that connects; returns in the forks alone, with the connection."""
    forks: list[int] = []
    while True:
        ready = select.select([listener, *forks], [], [])[0]
        if listener in ready:
            connection, _ = listener.accept()
            if not (pid := os.fork()):
                listener.close()
                connection.sendall(b"+")
                return connection
            connection.close()
            forks.append(os.pidfd_open(pid))  # ready when it ends
        forks = [fork for fork in forks if fork not in ready]
        if not forks:
            path = Path(listener.getsockname())
            path.unlink()
            with suppress(OSError):  # others have their sockets in it
                path.parent.rmdir()
            os._exit(0)


def serve(connection: socket.socket) -> dict[str, Any]:
    """Forks for each request; returns in the forks alone, with the request."""
    while True:
        message, streams, *_ = socket.recv_fds(connection, 2**20, 20)
        if not message:
            os._exit(0)
        started = []
        for number, request in enumerate(json.loads(message)):
            pid = os.fork()
            if pid == 0:
                connection.close()
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(streams[2 * number], 1)
                os.dup2(streams[2 * number + 1], 2)
                for stream in streams:
                    os.close(stream)
                found: dict[str, Any] = request
                return found
            started.append(pid)
        for stream in streams:
            os.close(stream)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started]
        connection.sendall(json.dumps(codes).encode())


class Spare(subprocess.Popen):
    """A process that this one starts as `python ...`, forked before this one has run anything."""

    waiting: ClassVar[list[tuple[int, socket.socket]]] = []

    @classmethod
    def fork(cls) -> dict[str, Any] | None:
        """Forks a process that waits for its command; returns the command in that process alone."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if pid := os.fork():
            theirs.close()
            cls.waiting.append((pid, ours))
            return None
        for connection in (ours, *(others for _, others in cls.waiting)):
            connection.close()
        cls.waiting.clear()
        message, streams, *_ = socket.recv_fds(theirs, 2**20, 3)
        if not message:  # this process has ended without starting another
            os._exit(0)
        theirs.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        found: dict[str, Any] = json.loads(message)
        return found

    def _execute_child(self, args: Any, *rest: Any) -> None:
        cwd, env = rest[4:6]
        pipes = rest[9:15]  # read and write ends of stdin, stdout and stderr, or -1
        if args[0] != sys.executable or not self.waiting:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        self.pid, connection = self.waiting.pop()
        request = {"words": args[1:], "cwd": cwd or os.getcwd(), "env": dict(env or os.environ)}
        given = (pipes[0], pipes[3], pipes[5])
        streams = [own if pipe == -1 else pipe for own, pipe in enumerate(given)]
        socket.send_fds(connection, [json.dumps(request).encode()], streams)
        connection.close()
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def rehearse() -> None:
    """Does what each run would do first: finds plugins, fills caches of parsers and of fonts."""
    from thaw.cli.compose import compose

    compose(["task=sequence", "seed=1"])
    if "thaw.train" in sys.modules:
        from thaw.report.figures import image

        image("rehearsal", {"a line": lambda axes: axes.plot([1, 2])})
        spare_figures()


@cache
def spare_figures() -> None:
    """Has figures drawn only where the variable `NO_FIGURES` is not set: they take a third of the
    time of a tiny run."""
    from thaw.report import figures
    from thaw.report.sections import Image

    draw = figures.image

    def image(title: str, *args: Any, note: str = "", **options: Any) -> Image:
        if NO_FIGURES in os.environ:
            return Image(title, note=note)
        return draw(title, *args, note=note, **options)

    figures.image = image


def become(words: list[str], cwd: str, env: dict[str, str]) -> None:
    """Runs what `python words...` runs, in this process, and ends it."""
    if any("trainer.devices=2" in word for word in words) and "LOCAL_RANK" not in env:
        for _ in range(2):  # a job of a sweep may start another
            if request := Spare.fork():
                return become(**request)
        subprocess.Popen = Spare  # type: ignore[misc]
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path += env.get("PYTHONPATH", "").split(os.pathsep)
    if rank := env.get("LOCAL_RANK"):  # Lightning reads it when it is imported
        from lightning.pytorch.utilities import rank_zero_only

        rank_zero_only.rank = int(rank)  # type: ignore[attr-defined]
    code = 0
    try:
        run(words, cwd)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    # As Python ends, but without taking apart, object by object, what the server has imported.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(words: list[str], cwd: str) -> None:
    """Runs a script, a module or code, as Python does."""
    if words[0] == "-m":
        sys.path[0] = cwd
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.path[0] = ""
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = str(Path(words[0]).resolve().parent)
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    sys.path[0] = str(REPOSITORY)
    yaml.SafeLoader = yaml.CSafeLoader  # as in tests/conftest.py
    for name in sys.argv[2:]:
        importlib.import_module(name)
    if "thaw.start" in sys.modules:
        rehearse()
    os.fsync = lambda fd: None  # as in tests/conftest.py
    gc.collect()
    gc.freeze()  # a fork's collections would touch, and so copy, all that is imported
    become(**serve(accept(socket.socket(fileno=int(sys.argv[1])))))
