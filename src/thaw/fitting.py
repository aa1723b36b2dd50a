"""Training from Python: `thaw.fit`, which does what `python train.py` does, and its `Run`."""

import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from thaw.cli.compose import explained_overrides, refuse_options_of_others, register_resolvers
from thaw.cli.conf import conf_dir, search_path
from thaw.cli.overrides import key_of, literal, quote, swept, words_of
from thaw.cli.resume import command_to_resume
from thaw.cli.secrets import Formatter
from thaw.data.python_tables import keep_table
from thaw.errors import ThawError
from thaw.start import run_composed
from thaw.storage.files import read_json, remove

if TYPE_CHECKING:
    from thaw.model import Model

SEVERAL = (
    "these options start several runs, and thaw.fit trains one. On the command line: "
    "`python train.py {}`."
)
NAMED = str | os.PathLike | int | float | None  # a split that is a file, a fraction, or none


class Run:
    """A finished run.

    Args:
        directory: the run directory, as `thaw.fit` or `python train.py` left it.

    Attributes:
        directory: the run directory, absolute.
        metrics: metrics by name, such as test/f1.
        report: the page with scores, figures and errors.

    Raises:
        ThawError: no run finished there.
    """

    def __init__(self, directory: str | os.PathLike) -> None:
        self.directory = Path(directory).expanduser().absolute()
        self.report = self.directory / "report.html"
        self.metrics: dict[str, float] = read_json(self.directory / "metrics.json")
        if not self.metrics:
            raise ThawError(f"{self.directory}: no run finished there, as it has no metrics.json.")

    def load(self, **options: Any) -> "Model":
        """Returns the run's model, which predicts; for the options see `thaw.load`."""
        from thaw.model import load

        return load(self.directory, **options)

    def __fspath__(self) -> str:
        return str(self.directory)

    def __repr__(self) -> str:
        scores = (f"{k}={v:.4f}" for k, v in self.scores().items())
        return f"<run {self.directory}: {', '.join(scores)}>"

    def _repr_html_(self) -> str:
        """Returns the scores as a table, for a notebook."""
        rows = "".join(f"<tr><td>{k}</td><td>{v:.4f}</td></tr>" for k, v in self.scores().items())
        return f"<table><tr><th>{self.directory.name}</th><th></th></tr>{rows}</table>"

    def scores(self) -> dict[str, float]:
        """Returns the metrics of the test, or of the validation if nothing was tested."""
        found = [k for k in self.metrics if k.count("/") == 1]
        part = "test/" if any(k.startswith("test/") for k in found) else "val/"
        return {k: self.metrics[k] for k in found if k.startswith(part)}


def fit(
    *overrides: str,
    train: Any = None,
    validation: Any = None,
    test: Any = None,
    resume: str | os.PathLike | None = None,
    config_dir: str | os.PathLike | None = None,
    keep_data: bool = False,
    **options: Any,
) -> Run:
    """Trains as `python train.py` does, and returns the finished run.

    Args:
        overrides: words as on the command line, such as "task=ner" or "trainer.max_epochs=3".
        train: data to train on: a pandas DataFrame, a `datasets.Dataset`, a dictionary of columns,
            a list of dictionaries, two lists (texts, labels), or a file.
        validation: likewise, or the fraction of train that is cut off for it.
        test: likewise.
        resume: directory of a run to go on with.
        config_dir: directory of your own configs.
        keep_data: whether data from Python stays in thaw's cache, so that `evaluate` and `resume=`
            on the command line find it. Else the run keeps its number of rows and its hash alone.
        options: options by group or name: task="ner", trainer={"max_epochs": 3}, seed=1.

    Raises:
        ThawError: an option, the data or the checkpoint does not fit, or the machine gives up.
    """
    if wrong := [word for word in overrides if not isinstance(word, str)]:
        raise ThawError(
            f"got a {type(wrong[0]).__name__} without a name; expected an override, such as "
            "'task=ner'. Name data: thaw.fit(train=...)."
        )
    given = {"train": train, "validation": validation, "test": test}
    tables: dict[str, Path] = {}
    try:
        tables = {s: keep_table(v, s) for s, v in given.items() if not isinstance(v, NAMED)}
        words = [*overrides, *words_of(options)]
        words = [*data_words({**given, **tables}, words), *words]
        if resume is not None:
            words = command_to_resume([*words, f"resume={quote(os.fspath(resume))}"])
        if config_dir is not None:
            words += search_path([os.path.abspath(config_dir)])
        return Run(start(words))
    except ThawError as error:
        text = str(error)
        for split, path in tables.items():
            text = text.replace(str(path), f"{split} (from Python)")
        raise ThawError(text) from error
    finally:
        for path in tables.values():
            if not keep_data:
                remove(path.parent)


def data_words(given: Mapping[str, Any], words: Sequence[str]) -> list[str]:
    """Returns the overrides that name the splits: of each the file or the fraction `given`, unless
    the user's `words` choose a data set."""
    found = {split: value for split, value in given.items() if value is not None}
    own = any(key_of(word) == "data" for word in words) or given["train"] is None
    chosen = [] if own else ["data=files"]
    paths = {s: os.fspath(v) if isinstance(v, os.PathLike) else v for s, v in found.items()}
    return [*chosen, *(f"data.{split}={literal(value)}" for split, value in paths.items())]


def start(words: Sequence[str]) -> Path:
    """Runs `conf/train.yaml` with overrides as a job of Hydra, and returns the run directory.

    Raises:
        ThawError: see `fit`; also where SIGTERM ended the run, which can be resumed.
        KeyboardInterrupt: Ctrl-C, or a notebook's stop, ended the run; it can be resumed.
    """
    place: list[Path] = []
    errors: list[BaseException] = []

    def job(cfg: DictConfig) -> None:
        place.append(Path(cfg.run_dir).absolute())
        with run_log(place[0]):
            try:
                run_composed(cfg, apart=True)
            except Exception as error:  # Hydra would print the command line first
                errors.append(error)

    refuse_options_of_others(words)
    refuse_sweeps(words)
    register_resolvers()
    try:
        with (
            own_hydra(),
            initialize_config_dir(str(conf_dir()), version_base="1.3"),
            explained_overrides(words),
        ):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            if hydra.get_mode("train", list(words)) == RunMode.MULTIRUN:
                raise ThawError(SEVERAL.format(shlex.join(words)))
            hydra.run("train", job, list(words), with_log_configuration=False)
            if errors:
                raise errors[0]
    except SystemExit as stop:
        if isinstance(stop.__cause__, ThawError):  # of a callback, whose errors Hydra swallows
            raise stop.__cause__ from None
        way = f"go on with thaw.fit(resume={str(place[0])!r}) and the same data" if place else ""
        if stop.code == 130:
            raise KeyboardInterrupt(way) from stop
        names = {str(128 + n): n.name for n in (signal.SIGTERM, signal.SIGUSR1)}
        why = names.get(str(stop.code), f"exit code {stop.code}")
        raise ThawError(f"the run was ended by {why}; {way or 'it had not begun'}.") from stop
    return place[0]


def refuse_sweeps(words: Sequence[str]) -> None:
    """Raises ThawError for an override with several values, or a sweep that is resumed, as a call
    trains one run."""
    if "-m" in words:
        raise ThawError(SEVERAL.format(shlex.join(words)))
    for word in words:
        jobs, key = swept(word), key_of(word)
        if jobs and len(jobs) == 1:  # the start of a range
            raise ThawError(SEVERAL.format(f"hparams_search=optuna {shlex.quote(word)}"))
        if jobs is not None:
            raise ThawError(
                f"{word}: thaw.fit trains one run, so call it for each value, with your other "
                f"arguments: `runs = [thaw.fit(word) for word in {jobs}]`. A list is "
                f"'{key}=[...]', and a text with a comma is quoted for Hydra: \"{key}='...'\"."
            )


@contextmanager
def own_hydra() -> Iterator[None]:
    """Gives a run a Hydra of its own, and the program back the one that it had."""
    hydra, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = hydra
        HydraConfig.instance().cfg = config


@contextmanager
def run_log(directory: Path) -> Iterator[None]:
    """Writes what a run logs into its train.log, and prints it unless the program logs itself."""
    root, own = logging.getLogger(), logging.getLogger("thaw")
    dated = logging.FileHandler(directory / "train.log", encoding="utf-8", delay=True)
    dated.setFormatter(Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers: list[logging.Handler] = [dated]
    if not root.handlers:
        plain = logging.StreamHandler(sys.stdout)
        plain.setFormatter(Formatter("%(message)s"))
        handlers.append(plain)
    level = own.level
    own.setLevel(logging.INFO)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield
    finally:
        own.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
