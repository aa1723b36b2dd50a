"""Checks a composed config against the constructors it is for, before anything is fetched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from thaw.cli.conf import conf_dir
from thaw.cli.messages import near
from thaw.cli.static_signatures import Signature, signature
from thaw.data.read.folds import require_fold
from thaw.errors import ThawError

# Arguments that the code adds to what the config says, by the node they belong to.
GIVEN = {
    "data": {"tokenizer", "seed", "only", "trained"},
    "task": {
        "checkpoint",
        "model",
        "loss_weights",
        "freeze",
        "seed",
        "labels",
        "multi_label",
        "label_counts",
        "fine_words",
        "max_tokens",
    },
    "trainer": {"logger", "callbacks"},
}
# Options that no constructor takes, with their types.
PLAIN: dict[str, Any] = {
    "seed": NonNegativeInt,
    "monitor": str,
    "monitor_mode": Literal["max", "min"],
    "resume": str | None,
    "run_dir": str,
    "program": str,
    "model.name": str,
    "model.checkpoint": str | Mapping[str, Any],
    "model.revision": str | None,
    "model.learning_rate": NonNegativeFloat,
    "model.mlm_learning_rate": NonNegativeFloat,
    "adapt.seeds": Sequence[int],
    "adapt.pretrain": Sequence[str],
    "adapt.classify": Sequence[str],
    "adapt.score": str,
}
ONE_RUN = "thaw.train.train"  # other programs chain runs, and give each its own words


def plain(node: Any) -> Any:
    """A config node as plain containers, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True)


def checked(cfg: DictConfig, typed: Sequence[str] | None = None) -> DictConfig:
    """Returns a config that `verify` found no fault in: read-only, so that it is checked once.

    Args:
        cfg: the composed config.
        typed: the user's overrides that this task must read; None: Hydra's.

    Raises:
        ThawError: see `verify`.
    """
    if not OmegaConf.is_readonly(cfg):
        verify(cfg, typed)
        OmegaConf.set_readonly(cfg, True)
    return cfg


def verify(cfg: DictConfig, typed: Sequence[str] | None = None) -> None:
    """Refuses a run that cannot go well, from what its config says and what is on this disk.

    Args:
        cfg: the composed config; what the task does not read of `cfg.data` is left out of it.
        typed: the user's overrides that this task must read; None: Hydra's.

    Raises:
        ThawError: an option does not exist or does not fit, or a file is not there.
    """
    if typed is None:
        alone = HydraConfig.initialized() and cfg.program == ONE_RUN
        typed = HydraConfig.get().overrides.task if alone else []
    leave_unread(cfg, typed)
    check(cfg, GIVEN)
    require_fold(cfg.data.get("folds"), cfg.data.get("fold"), cfg.data)
    require_sources(cfg, typed)


def require_sources(cfg: DictConfig, typed: Sequence[str] = ()) -> None:
    """Raises ThawError if the model or the data is to be on this disk and is not, or if train is
    there and the data is not of files.

    Args:
        cfg: the composed config.
        typed: the user's overrides.
    """
    from thaw.data.read.tables import require_file
    from thaw.storage.checkpoints import require_model
    from thaw.storage.files import at_home

    require_model(plain(cfg.model).get("checkpoint"))
    data = {key: at_home(value) for key, value in plain(cfg.data).items()}
    path = data.get("path")
    own = any(word.startswith("data.train=") for word in typed)
    if own and path is not None and data["train"] and Path(data["train"]).is_file():
        form = "data=conll" if data.get("format") == "columns" else "data=files"
        if not (isinstance(path, str) and Path(path).is_dir()):
            raise ThawError(
                f"data.train={data['train']} is a file of your own, and data={data['name']} has "
                f"other ones: add {form}, and the columns to read."
            )
    if "train" in data and data["train"] is None and not data.get("zero_shot"):
        raise ThawError(
            f"data={data['name']} needs data.train=<file>, of a table also the columns to read: "
            "conf/data/files.yaml describes every option."
        )
    if "train" not in data or not (path is None or (isinstance(path, str) and Path(path).is_dir())):
        return
    for split in ("train", "validation", "test"):
        if isinstance(data[split], str) and not (Path(path or "") / data[split]).is_dir():
            require_file(Path(path or "") / data[split])


def check(cfg: DictConfig, given: Mapping[str, set[str]], parts: Sequence[str] = ()) -> None:
    """Checks every node with a `_target_`: its keys are arguments, its values of their types.

    Args:
        cfg: the composed config.
        given: arguments that the code adds, by dotted name of the node.
        parts: only these nodes of the top level; none: all.

    Raises:
        ThawError: names the key, and the nearest right ones.
    """
    chosen = {key: plain(cfg[key]) for key in parts} if parts else plain(cfg)
    for name, hint in PLAIN.items():
        group, _, key = name.rpartition(".")
        node = chosen.get(group, {}) if group else chosen
        if key in node:
            fits(name, node[key], hint)
    for path, node in targets(chosen):
        arguments(path, node, signature(node["_target_"]), given.get(path, set()))


def leave_unread(cfg: DictConfig, typed: Sequence[str] = ()) -> None:
    """Leaves out of `cfg.data` what other tasks read: a data set's file describes all of it.

    Args:
        cfg: the composed config, changed in place.
        typed: the user's overrides, which must have an effect.

    Raises:
        ThawError: an override sets what this task does not read.
    """
    leave_to_data(cfg)
    known = OmegaConf.load(conf_dir() / "data" / "files.yaml")
    read = signature(cfg.data._target_).parameters
    unread = [str(key) for key in cfg.data if key in known and key not in read]
    if "format" in unread and cfg.data.get("format") == "columns":
        raise ThawError(f"data={cfg.data.name} is words with tags, a word a line: add task=ner.")
    for word in typed:
        group, _, key = word.lstrip("+~").partition("=")[0].partition(".")
        if group == "data" and key.split(".")[0] in unread:
            options = sorted(set(read) & set(known))
            raise ThawError(
                f"{word}: this task does not read data.{key}.{near(key, options)} "
                f"It reads {', '.join(options)}."
            )
    with open_dict(cfg):
        for key in unread:
            del cfg.data[key]


def leave_to_data(cfg: DictConfig) -> None:
    """Leaves out of `cfg.task` what its file hands to `cfg.data` and the task does not take, such
    as `task.shots` of `task=setfit`: an option is read by one object.

    Args:
        cfg: the composed config, changed in place.
    """
    takes = signature(cfg.task._target_).parameters
    data = OmegaConf.to_container(cfg.data, resolve=False)
    assert isinstance(data, dict)
    keys = [key for key in cfg.task if key not in takes and data.get(key) == f"${{task.{key}}}"]
    with open_dict(cfg):
        for key in keys:
            cfg.data[key] = cfg.task[key]
            del cfg.task[key]


def targets(node: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """All nodes with a `_target_`, with their dotted names."""
    if not isinstance(node, dict):
        return []
    found = [(path, node)] if "_target_" in node else []
    for key, value in node.items():
        found += targets(value, f"{path}.{key}" if path else str(key))
    return found


def arguments(path: str, node: dict[str, Any], takes: Signature, given: set[str]) -> None:
    """Checks one node against its constructor's signature."""
    parameters, hints = takes.parameters, takes.hints
    for key, value in node.items():
        if key.startswith("_") and key.endswith("_"):
            continue
        if key not in parameters:
            if takes.open_ended:
                continue
            options = sorted(set(parameters) - given)
            raise ThawError(
                f"there is no option {path}.{key}.{near(key, options)} "
                f"{path} has {', '.join(options)}."
            )
        if key in hints:
            fits(f"{path}.{key}", value, hints[key])
    required = {k for k, p in parameters.items() if p.default is p.empty}
    if absent := sorted(required - set(node) - given):
        raise ThawError(f"{path} needs {', '.join(absent)}.")


def fits(name: str, value: Any, hint: Any) -> None:
    """Raises ThawError if a value is not of an argument's type."""
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        adapter = TypeAdapter(hint)
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        expected = "; ".join(dict.fromkeys(e["msg"] for e in error.errors()))
        raise ThawError(f"{name}={value!r} does not fit: {expected}.") from error
