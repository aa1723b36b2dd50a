"""Reads how a finished run was made, from its directory. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from thaw.cli.kept_config import FILES, run_config
from thaw.errors import ThawError
from thaw.storage.checkpoints import checked_model, fetch_model
from thaw.storage.files import read_json

OWN = {"data": "thaw.data.", "task": "thaw.tasks.", "trainer": "thaw.training.trainer."}
# What a model directory without a run holds: end of its architecture's name, task, data module.
KINDS = (
    ("ForSequenceClassification", "sequence.SequenceClassification", "sequence.SequenceData"),
    ("ForTokenClassification", "ner.TokenClassification", "ner.TokenData"),
    ("ForMaskedLM", "mlm.MaskedLanguageModel", "mlm.MaskedLanguageModelData"),
)
REGRESSION = ("regression.Regression", "regression.RegressionData")
SETFIT = ("setfit.SetFit", "setfit.SetFitData")


@dataclass(frozen=True)
class Finished:
    """A model that can predict."""

    model: Path  # its directory
    task: str  # path of the task's class, which is thaw's own or of a module that the user trusts
    # Options of data that it was trained with; of a model without a run, those that the
    # directory tells.
    data: Mapping[str, Any]

    @property
    def files(self) -> list[Any]:
        """The options that name what was read."""
        return [self.data.get(key) for key in FILES]


def finished(place: str | Path, trust: str = "") -> list[Finished]:
    """Returns the models at a place: one, or those of a sweep's finished runs.

    Args:
        place: a run directory, the directory of a sweep, a model directory, or owner/name on the
            Hub.
        trust: module of the user's own that a run directory may name, "" for none.

    Raises:
        ThawError: nothing is there, no run finished there, or it names code to run.
    """
    path = Path(place).expanduser()
    if (path / "multirun.yaml").is_file():
        from thaw.cli.jobs import read_jobs  # loads more of Hydra than a run needs

        done = [path / job.name for job in read_jobs(path) if job.status == "done"]
        if not done:
            raise ThawError(f"{path}: no run of this sweep has finished.")
        return [found for run in done for found in finished(run, trust)]
    named = len(path.parts) == 2 and "." not in str(place)[:1] and not path.parent.is_dir()
    if named and not path.is_dir():
        try:
            return [of_model(fetch_model(str(place)))]
        except ThawError as error:
            raise ThawError(
                f"{place} is no directory; as owner/name on the Hub: {error}"
            ) from error
    if (path / "config.json").is_file():
        whole = path.name == "model" and (path.parent / ".hydra").is_dir()
        if not whole:
            return [of_model(checked_model(path))]
        path = path.parent
    return [of_run(path, finished_model(path), trust)]


def require_same(found: Sequence[Finished]) -> None:
    """Raises ThawError unless the probabilities of models can be averaged."""
    first, *rest = found
    if rest and first.task.startswith("thaw.tasks.mlm."):
        raise ThawError("models without labels, as those of task=mlm, cannot be averaged.")
    for other in rest:
        if other.task != first.task:
            raise ThawError(f"{first.model} is of {first.task}, {other.model} of {other.task}.")
        one, two = (read_json(f.model / "config.json") for f in (first, other))
        same = ("id2label", "problem_type", "fine_words", "text_windows")
        if any((one.get(key) or None) != (two.get(key) or None) for key in same):
            ours, theirs = (", ".join((c.get("id2label") or {}).values()) for c in (one, two))
            raise ThawError(
                f"the models do not agree: {first.model} has the labels {ours}, and {other.model} "
                f"{theirs}."
            )


def of_run(run: Path, model: Path, trust: str) -> Finished:
    """Returns the model of a run, which may name no code but thaw's; see `finished`."""
    from thaw.cli.check import plain

    cfg = run_config(run)
    refuse_code(cfg, run, ["task"], trust)
    return Finished(model, str(cfg.task._target_), plain(cfg.data))


def of_model(model: Path) -> Finished:
    """Returns a model without a run, whose task its files tell."""
    config = read_json(model / "config.json")
    names = [str(name) for name in config.get("architectures") or ()]
    kinds = [(task, data) for end, task, data in KINDS if any(n.endswith(end) for n in names)]
    if kinds and config.get("problem_type") == "regression":
        kinds = [REGRESSION]
    if (model / "head.safetensors").is_file():
        kinds = [SETFIT]
    if not kinds:
        raise ThawError(
            f"{model} holds {', '.join(names) or 'a model of no known architecture'}; expected a "
            f"model that thaw exported, or one of {', '.join(f'*{end}' for end, *_ in KINDS)}."
        )
    [(task, data)] = kinds[:1]
    columns = {"text": "text", "tokens": "tokens"}
    return Finished(model, f"thaw.tasks.{task}", {"_target_": f"thaw.data.{data}"} | columns)


def finished_model(run: Path) -> Path:
    """Returns the model directory of a finished run; raises ThawError if there is no such run, or
    it did not finish."""
    if not run.is_dir():
        raise ThawError(f"run={run}: no such directory.")
    if (run / "multirun.yaml").is_file():
        raise ThawError(
            f"run={run} is the directory of a sweep: name one of its runs, such as run={run / '0'}."
        )
    if not (run / "model" / "config.json").exists():
        inside = ", ".join(sorted(p.name for p in run.iterdir())) or "nothing"
        raise ThawError(f"run={run} has no model/, so no run finished there; it holds {inside}.")
    return checked_model(run / "model")


def refuse_code(cfg: Any, run: Path, parts: Sequence[str], trust: str) -> None:
    """Raises ThawError where a run directory, which may come from anywhere, names code to run: in
    `parts` of its config, all but one class each, of thaw or of the module that the user trusts."""
    from thaw.cli.check import plain, targets

    for part in parts:
        known = (OWN[part], f"{trust}.") if trust else (OWN[part],)
        try:
            node = plain(cfg[part])
        except OmegaConfBaseException:  # such as a variable that is not set here
            node = OmegaConf.to_container(cfg[part], resolve=False)
        for path, found in targets(node, part):
            target = str(found["_target_"])
            if path != part or not target.startswith(known):
                raise ThawError(
                    f"{run} names code to run, {target} ({path}): it may come from anywhere, so "
                    f"thaw runs nothing but its own {OWN[part]}* there. A module of your own is "
                    f"named with trust={target.split('.')[0]}."
                )


def refuse_reader(reader: str | None, run: Path, trust: str, way: str = "") -> None:
    """Raises ThawError where a run directory names a function that reads files, unless the user
    trusts its module; `way` is another way out."""
    if reader is None or (trust and f"{reader}.".startswith(f"{trust}.")):
        return
    raise ThawError(
        f"{run} names code to read files with, data.reader={reader}: it may come from anywhere. "
        f"trust={reader.rpartition('.')[0]} runs it.{way}"
    )
