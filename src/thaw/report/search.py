"""Reads what a search by Optuna draws from, and how much each parameter decided.

Optuna and its plugin are imported within functions, as only a search needs them.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from omegaconf import DictConfig

from thaw.cli.coming_from import is_group
from thaw.cli.compose import compose, fail
from thaw.cli.conf import search_path
from thaw.cli.jobs import Job, direction
from thaw.cli.overrides import override_words, replace
from thaw.errors import ThawError
from thaw.report.sections import Table

ENOUGH = 5  # trials; of fewer no importance is computed


def search_space(config: DictConfig) -> dict[str, Any] | None:
    """Returns the distribution of each parameter that a sweep searches; None if it is no search."""
    sweeper = config.hydra.sweeper
    if not str(sweeper.get("_target_", "")).endswith(".OptunaSweeper"):
        return None
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    found, fixed = create_params_from_overrides([*params(config), *config.hydra.overrides.task])
    return {key: found[key] for key in found if key not in fixed}  # what is typed is not searched


def params(config: DictConfig) -> list[str]:
    """Returns the parameters that the config of a search names, as overrides."""
    return [f"{k}={v}" for k, v in (config.hydra.sweeper.get("params") or {}).items()]


def require_options(config: DictConfig) -> None:
    """Ends the process if no run has an option, or a choice, that is searched or typed.

    Hydra's own sweeper composes its jobs before the first one starts, and Optuna's does not.
    """
    words = replace(params(config), config.hydra.overrides.task)
    space = search_space(config) or {}
    choices = [len(getattr(space[key], "choices", ())) for key in space if is_group(key)]
    sources = [s.path for s in config.hydra.runtime.config_sources if s.schema == "file"]
    try:
        for index in range(max(choices, default=1)):
            compose([*override_words(words, index), *search_path(sources)])
    except ThawError as error:
        fail(str(error))


def require_repeatable(config: DictConfig) -> None:
    """Ends the process if a resumed search would not draw the trials again that are done."""
    sweeper = config.hydra.sweeper
    if config.resume is None or (
        sweeper.get("storage") is None and (sweeper.get("sampler") or {}).get("seed") is not None
    ):
        return
    fail(
        f"resume={config.resume}: this search has no seed, so its trials cannot be drawn again, or "
        "a storage, where it goes on without resume=. Start a new one with "
        "hydra.sweeper.sampler.seed=1 hydra.sweeper.storage=null."
    )


def importance_table(
    jobs: Sequence[Job], space: Mapping[str, Any], score: str, mode: str
) -> Table | None:
    """Returns how much each parameter of a search decides a score, by a random forest's mean
    decrease of impurity (Breiman 2001).

    None if there are fewer than `ENOUGH` finished trials, or if all of them have the same score.
    """
    import optuna

    done = [job for job in jobs if math.isfinite(job.metrics.get(score, math.nan))]
    params = [{k: value_of(j.values.get(k, ""), d) for k, d in space.items()} for j in done]
    trials = [
        (p, j.metrics[score]) for p, j in zip(params, done, strict=True) if None not in p.values()
    ]
    if len(trials) < ENOUGH or len({value for _, value in trials}) == 1 or not space:
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    study = optuna.create_study(direction=direction(mode))
    create = partial(optuna.trial.create_trial, distributions=dict(space))
    study.add_trials([create(params=chosen, value=value) for chosen, value in trials])
    # Optuna 2.10's default, fANOVA, does not run with today's numpy.
    evaluator = optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    note = f"How much each parameter decides {score}, by a random forest on {len(trials)} trials: "
    note += "a hint, where trials are few."
    return Table("parameter importance", ("parameter", "importance"), list(found.items()), note)


def value_of(text: str, distribution: Any) -> Any:
    """Returns the value of a parameter as its distribution has it; None if it has no such value."""
    if choices := getattr(distribution, "choices", None):
        return next((choice for choice in choices if str(choice) == text), None)
    try:
        return int(text) if "Int" in type(distribution).__name__ else float(text)
    except ValueError:
        return None
