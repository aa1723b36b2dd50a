"""Leaves keys, tokens and passwords out of whatever a run writes, prints or sends.

What a user types on the command line lands in a run's `.hydra/`, in its log, in W&B. Secrets belong
in the environment (HF_TOKEN, WANDB_API_KEY); where one was typed all the same, `***` stands for it.

No torch here: `train.py --cfg job` passes through it.
"""

import io
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from thaw.cli.overrides import key_of, split_override
from thaw.errors import ThawError
from thaw.storage.files import atomic
from thaw.storage.wheels import without_cache

log = logging.getLogger(__name__)

HIDDEN = "***"
NAME = (
    r"(?:[\w.@/+~-]*[._@/-])?(?:(?:api|access|private|secret|ssh|signing)[_-]?key|token|passw(?:or)?d"
    r"|passwd|passphrase|pwd|secrets?|credentials?|auth|authorization|bearer|sig|signature)"
)
SECRET_KEY = re.compile(NAME, re.IGNORECASE)
# key=value or key: value within a text, the value quoted or up to what ends it there
PAIR = re.compile(
    rf"(?<![\w.])({NAME}[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|\$\{{[^}}]*\}}"
    r"|(?:(?:Bearer|Basic)\s+)?(?:\\.|[^\s,}\]&\"'])+)",
    re.IGNORECASE,
)
WORD = re.compile(r"[+~]{0,2}([\w.@/-]+)=(.*)", re.DOTALL)
USER = re.compile(r"(?<=://)[^/\s@]+(?:@[^/\s@]*)*(?=@)")  # of a URL, with its password
SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|sk-[\w-]{20,}|AKIA[0-9A-Z]{16}|wandb_v1_\w{20,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+)"
)
# Hydra prints the config; after --help thaw does (thaw.cli.reference.help), and meanings of options
# look like secrets.
PRINTS = re.compile(r"--(?:cfg|info)(?:=[\w-]+)?|-[ci](?:job|hydra|all)?")
# names a variable and not its value
FROM_OUTSIDE = re.compile(r"[\"']?\$\{oc\.env:\w+(?:,null)?\}[\"']?")


def redacted(node: Any, secret: bool = False) -> Any:
    """Returns plain containers, or a text, which may be a `key=value` word or hold some, with `***`
    for every secret.

    A secret is the value of a key that is called one (`api_key`, `hf_token`, `password`), the user
    and password in a URL, and what has the shape of a well-known token. `${oc.env:NAME}` stays. In
    a node that is `secret`, every value is one.
    """
    if isinstance(node, Mapping):
        return {key: redacted(value, secret or is_secret(key)) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [redacted(value, secret) for value in node]
    if secret:
        return hidden(node)
    if not isinstance(node, str):
        return node
    word = WORD.fullmatch(node)
    if word and is_secret(word[1]):
        return node[: word.start(2)] + str(hidden(word[2]))
    return redacted_text(node)


def is_secret(key: Any) -> bool:
    """Returns whether a key holds a secret, from its name."""
    return isinstance(key, str) and SECRET_KEY.fullmatch(key) is not None


def hidden(value: Any) -> Any:
    """Returns `***` for a value, unless it is none, true or false, or names a variable."""
    if value is None or isinstance(value, bool) or value in ("", "null"):
        return value
    return value if FROM_OUTSIDE.fullmatch(str(value)) else HIDDEN


def redacted_text(text: str) -> str:
    """Returns a text with `***` for every secret; see `redacted`."""
    text = PAIR.sub(lambda m: m[1] + str(hidden(m[2])), text)
    text = USER.sub(HIDDEN, text)
    return SHAPES.sub(HIDDEN, text)


class Formatter(logging.Formatter):
    """Formats lines of a log, and tracebacks, without secrets and long paths of the cache."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted_text(without_cache(super().format(record)))


@contextmanager
def redacted_argv() -> Iterator[None]:
    """Takes secrets out of `sys.argv` meanwhile, for a library that sends it."""
    typed = sys.argv
    sys.argv = redacted(typed)
    try:
        yield
    finally:
        sys.argv = typed


@contextmanager
def redacted_config(argv: Sequence[str]) -> Iterator[None]:
    """Takes secrets out of the config that Hydra prints after `--cfg` and `--info`."""
    if not any(PRINTS.fullmatch(word) for word in argv):
        yield
        return
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        text = said.getvalue()
        try:
            node = OmegaConf.to_container(OmegaConf.create(text))
            clean = redacted(node)
            text = text if clean == node else OmegaConf.to_yaml(OmegaConf.create(clean))
        except (YAMLError, OmegaConfBaseException):  # --info prints more than a config
            text = redacted_text(text)
        print(text, end="")


def redact_file(path: Path) -> bool:
    """Takes secrets out of a YAML file, and returns whether there were any."""
    if not path.is_file():
        return False
    node = OmegaConf.to_container(OmegaConf.load(path))
    clean = redacted(node)
    if clean == node:
        return False
    with atomic(path, shared=True) as partial:
        OmegaConf.save(OmegaConf.create(clean), partial)
    return True


class Redaction(Callback):
    """Takes secrets out of what Hydra wrote of a job and of a sweep, before the job begins."""

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        directory = Path(config.hydra.runtime.output_dir) / (config.hydra.output_subdir or "")
        files = [directory / f"{name}.yaml" for name in ("config", "hydra", "overrides")]
        if config.hydra.mode == RunMode.MULTIRUN:
            files.append(Path(config.hydra.sweep.dir) / "multirun.yaml")
        if any([redact_file(path) for path in files]):
            log.warning(
                "the command line holds secrets, which other users of this machine can read. They "
                "are left out (%s) of the run directory, the log and W&B, so give them again to go "
                "on from it: better in the environment, as HF_TOKEN and WANDB_API_KEY are, or as "
                "'${oc.env:NAME}'.",
                HIDDEN,
            )

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        redact_file(Path(config.hydra.sweep.dir) / "multirun.yaml")


def require_whole(overrides: Sequence[str], argv: Sequence[str], origin: Path) -> None:
    """Raises ThawError if kept overrides lack a secret that is not typed again."""
    typed = {key_of(word) for word in argv}
    for key, value in map(split_override, overrides):
        if HIDDEN in value and key not in typed:
            raise ThawError(f"{origin} was kept without the secret of {key}: give {key}= again.")
