"""Keys, tokens and passwords that were typed are in no file and no line that a run leaves."""

import logging
import sys

import pytest
from omegaconf import OmegaConf

from helpers.runs import typed
from helpers.sweeps import rows_of, sweep_of
from helpers.warm import FOR_CHECKS, python
from thaw.cli.compose import compose
from thaw.cli.conf import choices
from thaw.cli.secrets import Formatter, redacted
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate

pytestmark = pytest.mark.no_figures

SECRET = "S3cr3tS3cr3tS3cr3t"
TYPED = [
    f"+hf_token={SECRET}",
    f"+note=https://me:{SECRET}@host.org/a",
    f"+store={{api_key: {SECRET}, url: a}}",
    f"model.revision=hf_{SECRET}",
]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("+logger.wandb.api_key=abc", "+logger.wandb.api_key=***"),
        ("+x.password='my pass word'", "+x.password=***"),
        ("++HF_TOKEN=abc", "++HF_TOKEN=***"),
        ("+x={api_key:abc,project:a}", "+x={api_key:***,project:a}"),
        ("seed=1,x.secret=a,task.seed=1", "seed=1,x.secret=***,task.seed=1"),
        ("data.path=https://user:p@ss@host/x", "data.path=https://***@host/x"),
        ("data.path=s3://key:secret@bucket", "data.path=s3://***@bucket"),
        ("a=https://host/x?token=abc&page=1", "a=https://host/x?token=***&page=1"),
        ("a=https://host/x?X-Amz-Signature=abc&b=1", "a=https://host/x?X-Amz-Signature=***&b=1"),
        ("model.revision=hf_" + "a" * 20, "model.revision=***"),
        ("Authorization: Bearer abc", "Authorization: ***"),
    ],
)
def test_a_secret_is_left_out_of_a_text(text, shown):
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "data.token_column=0",
        "data.max_tokens=64",
        "data.tokens=words",
        "data.group=author",
        "model.checkpoint=owner/name",
        "http://host/a@b",
        "write to me@host.org",
        "author=x",
        "+x.api_key=${oc.env:KEY}",
        "data.label_separator='|'",
        "+x.token=null",
        "'@jan: hi'",
        "model.revision=0123456789abcdef0123456789abcdef01234567",
    ],
)
def test_a_text_without_a_secret_stays_as_it_is(text):
    assert redacted(text) == text


def test_a_config_is_redacted_by_its_keys_however_deep():
    node = {"a": {"api_key": "x", "b": [{"password": 5}]}, "token": None, "auth": ["me", "pw"]}
    hidden = {"a": {"api_key": "***", "b": [{"password": "***"}]}, "token": None}
    assert redacted(node) == hidden | {"auth": ["***", "***"]}


@pytest.mark.parametrize("task", choices("task"))
def test_no_option_of_thaw_is_taken_for_a_secret(task):
    node = OmegaConf.to_container(compose([f"task={task}"]))
    assert redacted(node) == node


def test_a_traceback_in_the_log_has_no_secret():
    try:
        raise ValueError(f"cannot read https://me:{SECRET}@host/a")
    except ValueError:
        info = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, "x", 1, f"password={SECRET}", None, info)
    text = Formatter("%(message)s").format(record)
    assert "password=***" in text
    assert "https://***@host/a" in text
    assert SECRET not in text


def holding(directory):
    """The files of a directory that hold the secret, by name or content."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    return [p for p in files if SECRET.encode() in p.read_bytes() or SECRET in str(p)]


def test_a_run_keeps_and_prints_no_secret(overrides, tmp_path):
    options = [*overrides, *TYPED, "logger=default", "trainer.max_epochs=1"]
    done = typed(options, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "the command line holds secrets" in done.stdout
    assert SECRET not in done.stdout + done.stderr
    assert list((tmp_path / "run" / "wandb").rglob("*.wandb"))
    assert holding(tmp_path / "run") == []
    kept = OmegaConf.load(tmp_path / "run" / ".hydra" / "overrides.yaml")
    assert "+hf_token=***" in kept
    with pytest.raises(ThawError, match=r"without the secret of model\.revision: give"):
        evaluate([f"run={tmp_path / 'run'}"])


@pytest.mark.slow
def test_a_sweep_keeps_no_secret_and_is_resumed_with_it(overrides, tmp_path):
    options = [*overrides, *TYPED, "trainer.max_epochs=1", "freeze=last"]
    done, sweep = sweep_of(*options, "freeze.blocks=1,9", cwd=tmp_path)
    assert SECRET not in done.stdout + done.stderr
    assert holding(sweep) == []
    again, _ = sweep_of(*options, "freeze.blocks=1,0", f"resume={sweep}", cwd=tmp_path)
    assert again.stdout.count("done before") == 1
    assert holding(sweep) == []
    assert [row["status"] for row in rows_of(sweep)] == ["done", "failed", "done"]


@pytest.mark.parametrize("word", ["--cfg=job", "--help", "--info=config"])
def test_what_hydra_prints_has_no_secret(word):
    done = python("train.py", word, *TYPED, modules=FOR_CHECKS)
    assert "hf_token: " in done.stdout
    assert SECRET not in done.stdout + done.stderr


def test_a_log_names_files_of_the_cache_without_its_long_paths():
    path = "/root/.cache/thaw/wheels/reviews.csv.bz2-c5e1003ce78392b2/reviews.csv.bz2"
    record = logging.makeLogRecord({"msg": "%s: csv, 9 rows; %s", "args": (path, "/wheels/a.csv")})
    text = Formatter("%(message)s").format(record)
    assert text == "reviews.csv.bz2: csv, 9 rows; /wheels/a.csv"
