"""Checks a composed config against the constructors it is for, before anything is fetched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from thaw.cli.conf import conf_dir
from thaw.cli.overrides import did_you_mean, key_of
from thaw.cli.schema import definition, describe, fits, listed, schema
from thaw.cli.watched_metric import require_watched
from thaw.errors import ThawError

# Arguments that the code adds to what the config says, by the node they belong to.
GIVEN = {
    "data": {"tokenizer", "seed", "only", "trained"},
    "task": {
        *("checkpoint", "model", "freeze", "seed", "loss_weights", "optimizer", "schedule"),
        "gradient_checkpointing",
        *("labels", "multi_label", "label_counts", "fine_words", "max_tokens"),
        *("mean", "std", "window_stride"),
    },
    "optimizer": {"params", "lr", "weight_decay"},
    "schedule": {"optimizer", "num_warmup_steps", "num_training_steps", "total_steps", "T_max"},
    "trainer": {"logger", "callbacks"},
}
SET_BY_THAW = {
    "optimizer": "task.learning_rate and task.weight_decay",
    "schedule": "trainer.max_epochs, trainer.max_steps and task.warmup_ratio or task.warmup_steps",
}
PLAIN_GROUPS = ("model", "adapt")  # groups without a constructor
ONE_RUN = "thaw.train.train"  # other programs chain runs, each with overrides of its own


def plain(node: Any) -> Any:
    """Returns a config node as plain containers, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True)


def checked(cfg: DictConfig, typed: Sequence[str] | None = None) -> DictConfig:
    """Returns a config that `verify` found no fault in: read-only, so that it is checked once."""
    if not OmegaConf.is_readonly(cfg):
        verify(cfg, typed)
        OmegaConf.set_readonly(cfg, True)
    return cfg


def find_on_hub(cfg: DictConfig) -> None:
    """Puts what the Hub has in the place of options of data that are `auto`, as data=hub says."""
    from thaw.data.read.hub_choices import choices_on_hub

    with read_write(cfg):
        cfg.data.update(choices_on_hub(plain(cfg.data)))


def verify(cfg: DictConfig, typed: Sequence[str] | None = None) -> None:
    """Raises ThawError for a run that cannot go well, from its composed config, of which the data
    that the task does not read is left out, and the files on this disk; `typed` are the user's
    overrides that this task must read, None: Hydra's."""
    if typed is None:
        alone = HydraConfig.initialized() and cfg.program == ONE_RUN
        typed = HydraConfig.get().overrides.task if alone else []
    name_model(cfg)
    leave_unread(cfg, typed)
    check(cfg)
    require_watched(plain(cfg))
    if {cfg.data.get("folds"), cfg.data.get("fold")} != {None}:
        from thaw.data.read.sampling.folds import require_fold  # NumPy: a tenth of a second

        require_fold(cfg.data.get("folds"), cfg.data.get("fold"), cfg.data)
    require_sources(cfg, typed)
    name_data(cfg, typed)


def name_model(cfg: DictConfig) -> None:
    """Names the model after its checkpoint where an override replaced that of the model's file; of
    a path, its last two parts: W&B takes 64 characters."""
    model, file = plain(cfg.model), conf_dir() / "model" / f"{cfg.model.name}.yaml"
    checkpoint = model.get("checkpoint")
    if not file.is_file() or not isinstance(checkpoint, str):
        return
    if checkpoint != OmegaConf.load(file).checkpoint:
        cfg.model.name = "/".join(Path(checkpoint).parts[-2:])[-64:]


def name_data(cfg: DictConfig, typed: Sequence[str] = ()) -> None:
    """Names files of the user's own after the file or directory of train, unless an override names
    them; those of a Python program have no name. W&B takes 64 characters."""
    from thaw.data.read.text_files import called
    from thaw.storage.cache import cache_dir

    data, named = cfg.data, any(key_of(override) == "data.name" for override in typed)
    source = data.get("path") or data.get("train")
    if named or data.name not in ("files", "conll") or not isinstance(source, str):
        return
    path, tables = Path(source).expanduser(), cache_dir() / "tables"
    hub = source == data.get("path") and not path.is_dir()
    if (name := source if hub else called(path)) and tables not in path.absolute().parents:
        data.name = name[-64:]


def model_text(model: Mapping[str, Any]) -> str:
    """Returns the name of a model, with its checkpoint where that is another name."""
    name, checkpoint = model["name"], model["checkpoint"]
    other = isinstance(checkpoint, str) and checkpoint != name
    return f"{name} ({checkpoint})" if other else name


def require_sources(cfg: DictConfig, typed: Sequence[str] = ()) -> None:
    """Raises ThawError if a model or data on this disk is missing, or if data.train is a file of
    the user's while the data set has other ones."""
    from thaw.data.read.formats.own import require_reader
    from thaw.data.read.text_files import require_file, split_part
    from thaw.storage.checkpoints import require_model
    from thaw.storage.files import at_home

    if cfg.data.get("reader") is not None:
        require_reader(cfg.data.reader)
    require_model(plain(cfg.model).get("checkpoint"))
    data = {key: at_home(value) for key, value in plain(cfg.data).items()}
    path = data.get("path")
    on_disk = path is None or (isinstance(path, str) and Path(path).is_dir())
    own = any(key_of(override) == "data.train" for override in typed)
    if own and not on_disk and data["train"] and Path(data["train"]).is_file():
        form = "data=conll" if data.get("format") == "columns" else "data=files"
        raise ThawError(
            f"data.train={data['train']} is a file of your own, and data={data['name']} has other "
            f"ones: add {form}, and the columns to read."
        )
    if "train" in data and data["train"] is None and not data.get("zero_shot"):
        raise ThawError(
            f"data={data['name']} needs data.train=<file>, of a table also the columns to read: "
            "conf/data/files.yaml describes every option."
        )
    if "train" not in data or not on_disk:
        return
    for split in ("train", "validation", "test"):
        if isinstance(data[split], str):
            file, _ = split_part(Path(path or "") / data[split])
            if not file.is_dir():
                require_file(file)


def check(cfg: DictConfig, parts: Sequence[str] = ()) -> None:
    """Raises ThawError unless the keys of every node with a `_target_` are arguments, and its
    values of their types; it names the nearest right ones. `parts` are the keys of the top level to
    check, (): all."""
    chosen = {key: plain(cfg[key]) for key in parts} if parts else plain(cfg)
    for path, fragment in plain_options().items():
        group, _, key = path.rpartition(".")
        node = chosen.get(group, {}) if group else chosen
        if key in node:
            check_type(path, node[key], fragment)
    for path, node in targets(chosen):
        check_arguments(path, node, GIVEN.get(path, set()))


def plain_options() -> dict[str, dict[str, Any]]:
    """Returns the JSON Schema of each option that no constructor takes, by its path."""
    found = {k: part for k, part in schema()["properties"].items() if "$ref" not in part}
    for group in PLAIN_GROUPS:
        options = schema()["definitions"][group]["properties"]
        found |= {f"{group}.{key}": part for key, part in options.items()}
    return found


def leave_unread(cfg: DictConfig, typed: Sequence[str] = ()) -> None:
    """Leaves out of `cfg.data` what other tasks read: a data set's file describes all of it. Raises
    ThawError if an override sets what this task does not read."""
    leave_to_data(cfg)
    known = OmegaConf.load(conf_dir() / "data" / "files.yaml")
    read = definition(cfg.data._target_)["properties"]
    unread = [str(key) for key in cfg.data if key in known and key not in read]
    if "token_column" in unread and cfg.data.get("format") == "columns":
        raise ThawError(f"data={cfg.data.name} is words with tags, a word a line: add task=ner.")
    for override in typed:
        group, _, key = key_of(override).partition(".")
        if group == "data" and key.split(".")[0] in unread:
            options = sorted(set(read) & set(known))
            raise ThawError(
                f"{override}: this task does not read data.{key}.{did_you_mean(key, options)} "
                f"It reads {', '.join(options)}."
            )
    with open_dict(cfg):
        for key in unread:
            del cfg.data[key]


def leave_to_data(cfg: DictConfig) -> None:
    """Leaves out of `cfg.task` what its file hands to `cfg.data` and the task does not take, such
    as `task.shots` of `task=setfit`: an option is read by one object."""
    takes = definition(cfg.task._target_)["properties"]
    reads = definition(cfg.data._target_)["properties"]
    data = OmegaConf.to_container(cfg.data, resolve=False)
    assert isinstance(data, dict)
    keys = [key for key in cfg.task if key not in takes and key in data and key in reads]
    with open_dict(cfg):
        for key in keys:
            if data[key] == f"${{task.{key}}}":  # else a value of its own, as a kept config has
                cfg.data[key] = cfg.task[key]
            del cfg.task[key]


def targets(node: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Returns all nodes with a `_target_`, with their dotted paths."""
    inner: Any = node.items() if isinstance(node, dict) else ()
    found = [(path, node)] if isinstance(node, dict) and "_target_" in node else []
    for key, value in enumerate(node) if isinstance(node, list) else inner:
        found += targets(value, f"{path}.{key}" if path else str(key))
    return found


def check_arguments(path: str, node: dict[str, Any], given: set[str]) -> None:
    """Raises ThawError if a node does not fit the constructor that it names."""
    if node["_target_"] == "???":
        raise ThawError(f"{path}=own needs {path}._target_=<dotted name of a class>.")
    takes = definition(node["_target_"])
    options = takes["properties"]
    if path in SET_BY_THAW and (clash := sorted(given & set(node))):
        raise ThawError(f"{path}.{clash[0]} is set by thaw, of {SET_BY_THAW[path]}.")
    for key, value in node.items():
        if key.startswith("_") and key.endswith("_"):
            continue
        if key in options:
            check_type(f"{path}.{key}", value, options[key])
        elif not takes["additionalProperties"]:
            names = sorted(set(options) - given)
            raise ThawError(
                f"there is no option {path}.{key}.{did_you_mean(key, names)} "
                f"{path} has {', '.join(names)}."
            )
    if absent := sorted(set(takes["x-required"]) - set(node) - given):
        raise ThawError(f"{path} needs {', '.join(absent)}.")


def check_type(path: str, value: Any, fragment: dict[str, Any]) -> None:
    """Raises ThawError if a value is not what the JSON Schema of an option allows."""
    if fits(value, fragment):
        return
    expected = describe(fragment) or "a mapping with _target_"
    hint = did_you_mean(value, listed(fragment)) if isinstance(value, str) else ""
    raise ThawError(f"{path}={value!r} does not fit: expected {expected}.{hint}")
