"""`python ...` from a process that has imported its libraries already.

Importing torch, Lightning and transformers takes most of the time of a tiny run. A server imports
them once and forks for each command. The fork has the arguments, the environment, the directory,
the output and the exit code of a process of its own; what it starts itself are true processes.
"""

import atexit
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

REPOSITORY = Path(__file__).parents[2]
# Loaded before a command line is checked, and by a run. Without W&B: its import makes a directory
# that the first fork to end would delete.
LIGHT = ("hydra.core.utils", "hydra._internal.utils", "thaw.start", "thaw.cli.check")
HEAVY = (
    *LIGHT,
    *("lightning.pytorch", "torchmetrics.classification", "datasets", "sklearn.metrics"),
    *("thaw.train", "thaw.evaluate", "thaw.adapt", "thaw.tasks.sequence", "thaw.data.sequence"),
    *("transformers.models.bert.modeling_bert", "transformers.models.bert.tokenization_bert"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "pandas"),
)
SERVERS: dict[tuple[str, ...], socket.socket] = {}


def python(
    *words: str | Path,
    cwd: Path = REPOSITORY,
    env: dict[str, str] | None = None,
    modules: tuple[str, ...] = HEAVY,
    stderr_to_stdout: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Runs `python words...` in a fork of a process that has imported `modules`.

    Args:
        words: a script, `-m` and a module, or `-c` and code; then its arguments.
        cwd: working directory.
        env: variables beside those of this process.
        modules: what is imported before.
        stderr_to_stdout: whether both are one stream, in the order in which they were written.
    """
    server = SERVERS[modules] if modules in SERVERS else start(modules)
    request = {"words": [*map(str, words)], "cwd": str(cwd), "env": {**os.environ, **(env or {})}}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        streams = [out.fileno(), (out if stderr_to_stdout else errors).fileno()]
        socket.send_fds(server, [json.dumps(request).encode()], streams)
        code = server.recv(100)
        if not code:
            raise RuntimeError("the server of helpers/warm.py has ended")
        return subprocess.CompletedProcess(request["words"], int(code), text(out), text(errors))


def text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8").replace("\r\n", "\n")


def start(modules: tuple[str, ...]) -> socket.socket:
    """Starts a server; it ends when this process does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, __file__, str(theirs.fileno()), *modules]
    process = subprocess.Popen(command, cwd=REPOSITORY, pass_fds=[theirs.fileno()])
    theirs.close()
    SERVERS[modules] = ours
    atexit.register(process.wait)
    atexit.register(ours.close)  # runs first
    return ours


def serve(connection: socket.socket) -> dict[str, Any]:
    """Forks for each request; returns in the forks alone, with the request."""
    while True:
        message, streams, *_ = socket.recv_fds(connection, 2**20, 2)
        if not message:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            connection.close()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, stream in enumerate(streams, start=1):
                os.dup2(stream, number)
                os.close(stream)
            os.closerange(3, max(streams) + 1)
            request: dict[str, Any] = json.loads(message)
            return request
        for stream in streams:
            os.close(stream)
        _, status = os.waitpid(pid, 0)
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def become(words: list[str], cwd: str, env: dict[str, str]) -> None:
    """Runs what `python words...` runs, in this process."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
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
    for name in sys.argv[2:]:
        importlib.import_module(name)
    become(**serve(socket.socket(fileno=int(sys.argv[1]))))
