"""What goes wrong on a machine: a run says it in a line, and what was there stays."""

import http.server
import json
import socket
import threading

import pytest
import torch

from helpers.runs import metrics_of, typed
from helpers.warm import python
from thaw.errors import ThawError
from thaw.tasks.sequence import SequenceClassification

ONE = ("trainer.max_epochs=1", "trainer.val_check_interval=1.0")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't "
            "allocate memory: you tried to allocate 9 bytes."
        ),
        MemoryError(),
    ],
    ids=["gpu", "cpu", "python"],
)
@pytest.mark.parametrize("step", ["training_step", "test_step"])
def test_out_of_memory_says_what_to_lower(run, monkeypatch, error, step):
    def full(self, batch, batch_idx):
        raise error

    monkeypatch.setattr(SequenceClassification, step, full)
    with pytest.raises(ThawError, match="out of memory") as caught:
        run(*ONE)
    for hint in (
        "data.batch_size=4 trainer.accumulate_grad_batches=2",
        "(now 8 and 1)",
        "data.max_tokens (now 64)",
        "data.eval_batch_size",
        "trainer.precision=bf16-mixed",
        "freeze=last",
    ):
        assert hint in str(caught.value), hint
    assert (step == "test_step") == (run.directory("run") / "checkpoints" / "best.ckpt").exists()


def test_other_errors_of_a_step_stay_as_they_are(run, monkeypatch):
    def broken(self, batch, batch_idx):
        raise RuntimeError("a bug")

    monkeypatch.setattr(SequenceClassification, "training_step", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run(*ONE)


@pytest.mark.parametrize("name", ["metrics.csv", "learning_curve.png", "confusion.png"])
def test_a_disk_that_is_full_at_the_end_is_explained_and_keeps_the_checkpoints(run, name):
    directory = run.directory("run")
    directory.mkdir()
    (directory / f".{name}.partial").symlink_to("/dev/full")  # see thaw.storage.files
    with pytest.raises(ThawError, match=r"What was saved before is still there"):
        run(*ONE)
    assert (directory / "checkpoints" / "best.ckpt").exists() == (name != "metrics.csv")
    assert not (directory / "metrics.json").exists()


def test_a_run_directory_that_cannot_be_made_is_a_message(overrides, tmp_path):
    (tmp_path / "file").write_text("")
    done = typed([*overrides, *ONE], tmp_path / "file" / "run")
    assert done.returncode == 2, done.stderr
    assert f"thaw: {tmp_path / 'file'}" in done.stderr
    assert "hydra.run.dir=<directory> names another place" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.fixture
def refusing():
    """The address of a W&B server that refuses every key."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("content-length") or 0))
            answer = json.dumps({"errors": [{"message": "user is not logged in"}]}).encode()
            self.send_response(401)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def unreachable():
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    "server", ["refusing", pytest.param("unreachable", marks=pytest.mark.slow)]
)
def test_training_goes_on_without_wandb_and_says_so_once(overrides, tmp_path, server, request):
    overrides.remove("logger=csv")
    environment = {
        "WANDB_BASE_URL": request.getfixturevalue(server),
        "WANDB_API_KEY": "a" * 40,
        "WANDB_MODE": "online",
        "WANDB_INIT_TIMEOUT": "2",
    }
    words = [*overrides, *ONE, "logger=wandb", f"hydra.run.dir={tmp_path / 'run'}"]
    done = python("train.py", *words, env=environment)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert output.count("W&B does not take this run") == 1
    assert "`wandb sync` uploads it later" in output
    assert "Traceback" not in output
    assert metrics_of(tmp_path / "run")["steps"] == 8
    # Two where W&B's own process still holds the id of the start that was refused.
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) in (1, 2)
