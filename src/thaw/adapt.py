"""Trains a task, such as a classifier, on an encoder that is pretrained before: a job of
`experiment=chapter/adapt` and `experiment=adaptation_curve`, which are sweeps."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from thaw.cli.check import plain
from thaw.cli.compose import compose
from thaw.cli.overrides import group_of, key_of, quote, value_of
from thaw.cli.schema import definition
from thaw.cli.subprocess_job import takes_processes
from thaw.errors import ThawError
from thaw.train import train

log = logging.getLogger(__name__)

LABELLED = ("thaw.data.sequence.SequenceData", "thaw.data.setfit.SetFitData")
FEW = {"data.shots", "data.steps", "data.train_size"}  # differ between jobs that share an encoder
# Groups and keys of overrides that are not for pretraining, but for the classifier or the sweep.
CLASSIFIERS = {"task", "freeze", "monitor", "monitor_mode", "experiment", "adapt", "seed", *FEW}
SAME = ("data", "model")  # groups whose choices, which the task's file may make, are those of both


def classify(cfg: DictConfig) -> float | None:
    """Trains the task, with `adapt.pretrained=true` from an encoder that is pretrained before on
    the same texts, and returns the best value of the watched metric.

    Jobs of a sweep share the encoder in `adapt.directory`: the first that needs it pretrains it.

    Raises:
        ThawError: the config asks for several devices, for folds, or for a number of texts that the
            task does not read; or a run fails.
    """
    if takes_processes(cfg) or cfg.data.get("folds") is not None:
        raise ThawError(
            "experiment=chapter/adapt and adaptation_curve chain runs in one process and take no "
            f"data.folds; got trainer.devices={cfg.trainer.devices}, expected 1. The folds of "
            "pretraining, which reads no labels, would hold texts of the classifier's test."
        )
    require_read(plain(cfg.data), typed_overrides())
    if cfg.adapt.pretrained:
        directory = Path(cfg.adapt.directory).resolve()
        pretrain(cfg, directory)
        OmegaConf.set_readonly(cfg, False)
        cfg.model.checkpoint = str(directory / "model")
        OmegaConf.set_readonly(cfg, True)
    return train(cfg, typed=())


def require_read(data: Mapping[str, Any], typed: Sequence[str]) -> None:
    """Raises ThawError if a number of texts is swept that the task's data does not read."""
    for override in (o for o in typed if key_of(o) in FEW and value_of(o) != "null"):
        key = key_of(override)
        if key.removeprefix("data.") not in definition(data["_target_"])["properties"]:
            raise ThawError(
                f"{override}: this task does not read {key}. Each task reads a number of texts, or "
                f"sentences: {key}=null data.train_size=256,1024,null."
            )


def pretrain(cfg: DictConfig, directory: Path) -> None:
    """Pretrains, the head first; logs the frozen encoder's score on the classifier's texts.

    A fresh head that trains together with the encoder sends noise through it: it is to be near what
    it can be before the encoder moves (Kumar et al. 2022, LP-FT). Its run directory is `head`
    within `directory`.
    """
    options = plain(cfg.adapt)
    typed = [o for o in typed_overrides() if key_of(o) not in SAME]
    shared = [o for o in typed if not {group_of(o), key_of(o)} & CLASSIFIERS]
    chosen = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    same = [f"{group}={chosen[group]}" for group in SAME if group in chosen]
    own = [*same, *shared, f"seed={cfg.seed}", *options["pretrain"]]
    if options["head"]:
        run([*own, *options["head"]], directory / "head")
        own.append(f"model.checkpoint={quote(directory / 'head' / 'model')}")
    scored = any(key_of(word) == "task.frozen_score" for word in own)
    run(own, directory, {} if scored else {"task.frozen_score": labelled_texts(plain(cfg.data))})


def typed_overrides() -> list[str]:
    """Returns the overrides of this job of a sweep, none outside of one."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def labelled_texts(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns `task.frozen_score` for the data of a classifier, None if it has no labels of texts
    to learn from or no validation; the log says so."""
    if data["_target_"] in LABELLED and None not in (data["train"], data["validation"]):
        read = definition(LABELLED[0])["properties"]
        few = {key.removeprefix("data.") for key in FEW}
        return {key: value for key, value in data.items() if key in read and key not in few}
    log.info("the frozen encoder is not scored: that takes labelled texts and a validation")
    return None


def run(overrides: Sequence[str], directory: Path, added: Mapping[str, Any] | None = None) -> None:
    """Runs training in this process, with the files that `train.py` would leave, unless it has
    finished before; `added` are further values of the config, by key."""
    if (directory / "metrics.json").exists():
        log.info("pretrained before, and taken as it is: %s", directory)
        return
    cfg = compose([*overrides, f"run_dir={quote(directory)}"])
    for key, value in (added or {}).items():
        OmegaConf.update(cfg, key, value, force_add=True)
    (directory / ".hydra").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, directory / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.create(list(overrides)), directory / ".hydra" / "overrides.yaml")
    # Overrides are shared by all runs of the chain, so this one may get some that it does not read.
    train(cfg, typed=())
