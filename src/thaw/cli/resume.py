"""`python train.py resume=<directory>`: the command line that goes on with a run or a sweep, and
the check that others begin in a directory of their own.

No torch here: mistakes are answered at once.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from thaw.cli.compose import compose, fail
from thaw.cli.kept_config import load_yaml
from thaw.cli.overrides import group_of, key_of, literal, quote, replace, split_override, value_of
from thaw.cli.secrets import require_whole
from thaw.errors import ThawError

# Options, and all below them, that a resumed run may change: none of them changes its result.
FREE = (
    *("logger", "data.num_workers", "freeze.cache.path", "freeze.cache.budget_gib"),
    *("callbacks.checkpoint.every_n_train_steps", "callbacks.learning_rate", "callbacks.progress"),
    *("trainer.enable_progress_bar", "trainer.log_every_n_steps", "trainer.profiler"),
)


def command_to_resume(argv: Sequence[str]) -> list[str]:
    """Returns a command line in which `resume=<directory>` has become the overrides of that run or
    sweep; another command line as it is. Raises ThawError if there is no run, or an override would
    change its result."""
    refuse_ckpt_path(argv)
    named = [value_of(word) for word in argv if word.startswith("resume=")]
    sweeps = {"-m", "--multirun"} & set(argv)
    if not named or named[-1] in ("", "null"):
        return list(argv)
    options = [w for w in argv if w.startswith("-") or ("=" not in w and not w.startswith("~"))]
    typed = [w for w in argv if w not in options and not w.startswith("resume=")]
    directory = Path(named[-1]).absolute()
    if (directory / "multirun.yaml").is_file():
        own = sweep_overrides(directory)
        require_own(own, argv, directory)
        if not own and not typed:
            raise ThawError(
                f"resume={directory}: multirun.yaml is damaged, type the sweep's overrides again."
            )
        flags = options if sweeps else [*options, "-m"]
        return [*flags, *replace(own, typed), f"resume={quote(directory)}"]
    if sweeps:
        return list(argv)
    return [*options, *run_to_resume(directory, typed, argv)]


def refuse_ckpt_path(argv: Sequence[str]) -> None:
    """Raises ThawError for `ckpt_path=`, by which Lightning resumes from a checkpoint."""
    for word in argv:
        if key_of(word) in ("ckpt_path", "trainer.ckpt_path"):
            path = Path(value_of(word))
            run = path.parent.parent if path.parent.name == "checkpoints" else None
            known = run is not None and (run / ".hydra").is_dir()
            example = shlex.quote(f"resume={run}") if known else "resume=outputs/<date>/<time>"
            raise ThawError(
                f"{word}: thaw resumes a run from its directory, which holds the newest "
                f"checkpoint and the overrides: python train.py {example}"
            )


def run_to_resume(run: Path, typed: Sequence[str], argv: Sequence[str]) -> list[str]:
    """Returns the overrides that resume a run; raises ThawError if one would change its result."""
    own = started_with(run)
    kept = hydra_overrides(run, "hydra") or []
    search_path = [word for word in kept if key_of(word) == "hydra.searchpath"]
    require_own([*own, *search_path], argv, run)
    new = [w for w in typed if w not in own and not w.startswith("hydra.")]
    if new:
        require_free(run, own, new)
    for override in typed:
        if key_of(override) == "hydra.run.dir" and Path(value_of(override)).absolute() != run:
            raise ThawError(f"{override}: a run goes on in its own directory, {run}.")
    # Hydra's own notes of the run stay as they are: a kill while it writes them would end it.
    return [
        *replace([*own, *former_defaults(run, own)], new),
        *(w for w in typed if w.startswith("hydra.")),
        f"resume={quote(run)}",
        f"hydra.run.dir={quote(run)}",
        "hydra.output_subdir=null",
        "hydra.mode=RUN",
    ]


def former_defaults(run: Path, own: Sequence[str]) -> list[str]:
    """Returns overrides for the Trainer's options whose default has changed since a run began."""
    began = (load_yaml(run / ".hydra" / "config.yaml") or {}).get("trainer", {})
    now: Any = OmegaConf.to_container(compose([*own]).trainer, resolve=False)
    changed = {key: began[key] for key in began if key in now and began[key] != now[key]}
    plain = {k: v for k, v in changed.items() if k != "_target_" and not isinstance(v, dict | list)}
    return [f"trainer.{key}={literal(value)}" for key, value in plain.items()]


def require_own(own: Sequence[str], argv: Sequence[str], origin: Path) -> None:
    """Raises ThawError if kept overrides lack a secret, or name code to run, as options of a
    launcher can, and are not typed again: a directory may come from anywhere."""
    require_whole(own, argv, origin)
    code = [
        w
        for w in own
        if "_target_" in w
        or (group_of(w) in ("program", "hydra") and not is_search(w))
        or "data.reader=" in w  # also within the overrides that a program of several runs is given
        or (key_of(w) == "data" and "reader" in w)
    ]
    replaced = {key_of(w) for w in argv if group_of(w) == "hydra"}
    if code := [w for w in code if w not in argv and key_of(w) not in replaced]:
        raise ThawError(
            f"resume={origin} names code to run: type {shlex.join(code)} again. Options that can "
            "name code, as those of hydra. can, are not taken from a directory, which may come "
            "from anywhere."
        )


def is_search(word: str) -> bool:
    """Returns whether an override of a search is made of numbers alone, which name no code, such as
    its number of trials, or its parameters with their ranges."""
    key, value = split_override(word)
    names = r"(?<=[{,])\s*[\w.]+\s*:|" if key == "hydra.sweeper.params" else ""
    rest = re.sub(rf"{names}\b(?:choice|interval|range|tag|log|null)\b|\d[eE]", "", value)
    return key.startswith("hydra.sweeper.") and re.search(r"[^\W\d]", rest) is None


def sweep_overrides(sweep: Path) -> list[str]:
    """Returns the overrides that a sweep was last started with, without its mode and directory;
    [] if its notes are damaged."""
    kept = (load_yaml(sweep / "multirun.yaml") or {}).get("hydra", {}).get("overrides", {})
    overrides = [*kept.get("hydra", []), *kept.get("task", [])]
    left_out = ("hydra.mode", "hydra.sweep.dir", "hydra.sweep.subdir", "resume")
    return [override for override in overrides if key_of(override) not in left_out]


def started_with(run: Path) -> list[str]:
    """Returns the overrides that a run was started with; raises ThawError if there is no run."""
    if not run.is_dir():
        raise ThawError(f"resume={run}: no such directory; a run is outputs/<date>/<time>.")
    kept = load_yaml(run / ".hydra" / "overrides.yaml")
    began = (run / "versions.json").exists() or hydra_overrides(run, "task") == kept
    if kept is None or not began:
        inside = ", ".join(sorted(p.name for p in run.iterdir())) or "nothing"
        raise ThawError(f"resume={run}: no run began there; it holds {inside}.")
    return [override for override in kept if key_of(override) != "resume"]


def hydra_overrides(run: Path, kind: str) -> Any:
    """Returns the overrides of a kind, task or hydra, in the other file that Hydra notes them in,
    as a kill may cut off one of them."""
    notes = load_yaml(run / ".hydra" / "hydra.yaml") or {}
    return notes.get("hydra", {}).get("overrides", {}).get(kind)


def require_free(run: Path, own: Sequence[str], new: Sequence[str]) -> None:
    """Raises ThawError if overrides change the result of a run."""
    began, asked = compose([*own]), compose(replace(own, new))
    before, after = leaves(began), leaves(asked)
    for key in dict.fromkeys([*after, *before]):
        free = any(f"{key}.".startswith(f"{part}.") for part in FREE)
        # The workers of a stream split the corpus between them.
        free &= key != "data.num_workers" or not after.get("data.streaming")
        if not free and before.get(key) != after.get(key):
            was, wanted = resolved(began, key), resolved(asked, key)
            raise ThawError(
                f"{' '.join(new)}: a run goes on as it began, and {key} is {was!r} in {run}, not "
                f"{wanted!r}. Free to change are {', '.join(FREE)}. Anything else is a new run: "
                "leave resume= out."
            )


def resolved(cfg: Any, key: str) -> Any:
    """Returns the value of a key, unresolved where only a running Hydra could resolve it."""
    try:
        return OmegaConf.select(cfg, key)
    except OmegaConfBaseException:
        return leaves(cfg)[key]


def leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of a config by dotted key, interpolations unresolved."""
    if not prefix:
        node = OmegaConf.to_container(node, resolve=False)
    if not isinstance(node, Mapping) or not node:
        return {prefix: node}
    found: dict[str, Any] = {}
    for key, child in node.items():
        found |= leaves(child, f"{prefix}.{key}" if prefix else str(key))
    return found


class OwnDirectory(Callback):
    """Ends the process before Hydra writes the config of a run, or of the jobs of a sweep, over
    that of another that ran in the directory, or apart from the run.

    A launcher that runs jobs in other processes pickles this callback.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        # None where a run is resumed, and in all processes of a run but the first.
        if config.hydra.output_subdir is not None:
            refuse_taken("hydra.run.dir", config, [Path(config.hydra.run.dir)])

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.resume is None:
            inside = Path(config.hydra.sweep.dir).glob("*")
            jobs = sorted(path for path in inside if path.name.isdigit())
            refuse_taken("hydra.sweep.dir", config, jobs)
        elif not (Path(config.resume) / "multirun.yaml").is_file():
            fail(f"resume={config.resume}: no sweep there, such as multirun/<date>/<time>.")


def refuse_taken(key: str, config: DictConfig, directories: Iterable[Path]) -> None:
    """Ends the process if a run is in one of some directories, which the option `key` names, or if
    `run_dir` is typed, which does not move what Hydra writes."""
    if not OmegaConf.is_interpolation(config, "run_dir"):
        named = shlex.quote(f"{key}={config.run_dir}")
        fail(f"run_dir={config.run_dir}: a run directory is named by {named}.")
    for directory in directories:
        if said := taken(directory, key):
            fail(said)


def taken(directory: Path, key: str = "hydra.run.dir") -> str:
    """Returns that a run has trained in a directory, and what to do about it; "" if none has. The
    option `key` names the directory."""
    if not (directory / "versions.json").exists():
        return ""
    return (
        f"{directory} holds a run already: leave {key} out, name a new directory, or go on with "
        f"it: {resume_command(directory)}"
    )


def resume_command(directory: Path) -> str:
    """Returns what to type to resume a run, or its sweep."""
    sweeps = (directory.parent / "multirun.yaml").is_file()
    target = directory.parent if sweeps else directory
    return shlex.join(["python", "train.py", f"resume={target}"])
