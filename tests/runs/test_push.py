"""A finished run is pushed to a stand-in for the Hub on loopback: whole, or not at all."""

import shutil
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard

from helpers.hub import Hub
from thaw.errors import ThawError
from thaw.push import main

TOKEN = "hf_secret_of_the_test"


@pytest.fixture
def trained(finished):
    return finished("trainer.max_epochs=1")


@pytest.fixture
def hub(tmp_path):
    with Hub(tmp_path / "served", tokens={TOKEN: "write", "hf_reader": "read"}) as hub:
        yield hub


def push(hub, tmp_path, *words, token=TOKEN, url=None):
    """What `python -m thaw.push` prints, and its exit code."""
    environment = hub.environment(tmp_path / "home") | ({"HF_TOKEN": token} if token else {})
    done = subprocess.run(
        [sys.executable, "-m", "thaw.push", *words],
        capture_output=True,
        text=True,
        env=environment | ({"HF_ENDPOINT": url} if url else {}),
    )
    said = done.stdout + done.stderr
    assert TOKEN not in said
    return done.returncode, said


def files(directory):
    found = {
        p.relative_to(directory).as_posix(): p.read_bytes()
        for p in directory.rglob("*")
        if p.is_file()
    }
    return {name: content for name, content in found.items() if name != ".gitattributes"}


def test_a_run_is_pushed_whole_in_one_commit_and_a_failed_push_leaves_nothing(
    trained, hub, tmp_path
):
    words = [f"run={trained}", "repo=acme/reviews", "private=true"]
    there = tmp_path / "served" / "models" / "acme" / "reviews"
    answers = (("blob", 400, "Nothing was pushed; the"), ("commit", 500, "all files or none; the"))
    for route, status, words_of_it in answers:
        hub.failing = {route: status}
        code, said = push(hub, tmp_path, *words)
        assert code == 2, said
        assert f"{words_of_it} same command tries again." in said
        assert files(there) == {}
    hub.failing = {}
    code, said = push(hub, tmp_path, *words)
    assert code == 0, said
    assert "pushed: " in said
    assert hub.private == {"acme/reviews"}
    model = trained / "model"
    pushed = files(model)
    assert b'model="<this directory>"' in pushed["README.md"], "the run's own card stays as it is"
    pushed["README.md"] = pushed["README.md"].replace(b"<this directory>", b"acme/reviews")
    assert files(there) == pushed
    assert hub.commits == [(sorted(files(model)), [])]
    assert ModelCard.load(there / "README.md").data.pipeline_tag == "text-classification"

    code, said = push(hub, tmp_path, *words[:2], "private=false")
    assert (code, "exists already with private=true" in said) == (2, True)

    # Another model: what was of the first one alone goes, what its owner added stays.
    (there / "onnx").mkdir()
    (there / "onnx" / "model.onnx").write_bytes(b"of the first model")
    (there / "LICENSE").write_text("of the owner")
    code, said = push(hub, tmp_path, *words)
    assert code == 0, said
    assert hub.commits[-1][1] == ["onnx/model.onnx"]
    assert files(there) == pushed | {"LICENSE": b"of the owner"}


def test_a_branch_is_made_and_what_was_exported_to_onnx_goes_along(finished_copy, hub, tmp_path):
    trained = finished_copy("trainer.max_epochs=1")
    (trained / "model" / "onnx").mkdir()
    (trained / "model" / "onnx" / "model.onnx").write_bytes(b"graph")
    code, said = push(hub, tmp_path, f"run={trained}", "repo=acme/reviews", "revision=v2")
    assert code == 0, said
    assert files(tmp_path / "served" / "models" / "acme" / "reviews") == {}
    branch = files(tmp_path / "served" / "models" / "acme" / "reviews@v2")
    assert branch["onnx/model.onnx"] == b"graph"
    assert b'model="acme/reviews", revision="v2", truncation' in branch["README.md"]
    assert not [name for name in branch if "checkpoint" in name or "metrics" in name]


@pytest.mark.parametrize(
    ("token", "url", "words"),
    [
        (None, None, ["hf auth login", "HF_TOKEN"]),
        ("hf_wrong", None, ["does not take the token", "Nothing was pushed"]),
        ("hf_reader", None, ["no right to write", "settings/tokens"]),
        (TOKEN, "http://127.0.0.1:9", ["cannot be reached", "all files or none"]),
    ],
)
def test_a_refused_push_says_what_to_do(trained, hub, tmp_path, token, url, words):
    code, said = push(hub, tmp_path, f"run={trained}", "repo=acme/a", token=token, url=url)
    assert code == 2, said
    assert [word for word in words if word not in said] == []
    assert "Traceback" not in said
    assert not (tmp_path / "served" / "models" / "acme").exists()


def test_what_cannot_be_pushed_is_refused_with_what_to_type(trained, tmp_path):
    (sweep := tmp_path / "sweep").mkdir()
    (sweep / "multirun.yaml").touch()
    with pytest.raises(ThawError, match=r"directory of a sweep: name one of its runs"):
        main([f"run={sweep}", "repo=acme/a"])
    with pytest.raises(ThawError, match="expected owner/name, such as repo=acme/reviews"):
        main([f"run={trained}", "repo=reviews"])
    with pytest.raises(ThawError, match="private=yes: expected true or false"):
        main([f"run={trained}", "repo=acme/a", "private=yes"])
    unfinished = shutil.copytree(trained, tmp_path / "unfinished")
    (unfinished / "metrics.json").unlink()
    with pytest.raises(ThawError, match=r"did not finish.*train\.py resume="):
        main([f"run={unfinished}", "repo=acme/a"])
