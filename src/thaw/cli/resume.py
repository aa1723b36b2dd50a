"""`python train.py resume=<directory>`: the command line that goes on with a run, or with a sweep.

No torch here: mistakes are answered at once.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from thaw.cli.compose import compose
from thaw.cli.secrets import require_whole
from thaw.errors import ThawError

# What a run may be given anew, with all below it: nothing of it changes the result.
FREE = (
    "logger",
    "data.num_workers",
    "freeze.cache.path",
    "freeze.cache.budget_gib",
    "callbacks.checkpoint.every_n_train_steps",
    "callbacks.learning_rate",
    "callbacks.progress",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.profiler",
)


def words_to_go_on(argv: Sequence[str]) -> list[str]:
    """The words of a command; those of one with `resume=<directory>` become the run's own, or the
    sweep's.

    Args:
        argv: without the program.

    Raises:
        ThawError: there is no run, or a word would change its result.
    """
    named = [unquoted(w.partition("=")[2]) for w in argv if w.startswith("resume=")]
    sweeps = {"-m", "--multirun"} & set(argv)
    if not named or named[-1] in ("", "null"):
        return list(argv)
    options = [w for w in argv if w.startswith("-") or ("=" not in w and not w.startswith("~"))]
    typed = [w for w in argv if w not in options and not w.startswith("resume=")]
    run = Path(named[-1]).absolute()
    if (run / "multirun.yaml").is_file():
        own = words_of_sweep(run)
        require_own(own, argv, run)
        if not own and not typed:
            raise ThawError(
                f"resume={run}: multirun.yaml is damaged, type the sweep's words again."
            )
        words = replaced(own, typed)
        return [*options, *([] if sweeps else ["-m"]), *words, f"resume={quoted(run)}"]
    if sweeps:
        return list(argv)
    own = words_of(run)
    named_configs = [w for w in noted(run, "hydra") or [] if key_of(w) == "hydra.searchpath"]
    require_own([*own, *named_configs], argv, run)
    new = [w for w in typed if w not in own and not w.startswith("hydra.")]
    if new:
        require_free(run, own, new)
    elsewhere = [
        w
        for w in typed
        if key_of(w) == "hydra.run.dir" and Path(unquoted(w.partition("=")[2])).absolute() != run
    ]
    if elsewhere:
        raise ThawError(f"{elsewhere[0]}: a run goes on in its own directory, {run}.")
    # Hydra's own notes of the run stay as they are: a kill while it writes them would end it.
    return [
        *options,
        *replaced(own, new),
        *(w for w in typed if w.startswith("hydra.")),
        f"resume={quoted(run)}",
        f"hydra.run.dir={quoted(run)}",
        "hydra.output_subdir=null",
        "hydra.mode=RUN",
    ]


def replaced(own: Sequence[str], new: Sequence[str]) -> list[str]:
    """Words of a run and new ones, which replace those of their keys."""
    keys = {key_of(word) for word in new}
    return [*(word for word in own if key_of(word) not in keys), *new]


def require_own(own: Sequence[str], argv: Sequence[str], origin: Path) -> None:
    """Raises ThawError if words that were kept lack a secret, or name code to run, as a launcher's
    options can, and are not given again: a directory may come from anywhere."""
    require_whole(own, argv, origin)
    names = ("program", "hydra")
    code = [
        w
        for w in own
        if "_target_" in w
        or key_of(w).split(".")[0] in names
        or key_of(w) == "data.reader"
        or "data.reader=" in w  # within the overrides that a program of several runs is given
        or (key_of(w) == "data" and "reader" in w)
    ]
    if code := [w for w in code if w not in argv]:
        raise ThawError(f"resume={origin} names code to run: type {shlex.join(code)} again.")


def words_of_sweep(sweep: Path) -> list[str]:
    """The words that a sweep was last started with, those that say how and where apart; [] if its
    notes are damaged."""
    kept = (loaded(sweep / "multirun.yaml") or {}).get("hydra", {}).get("overrides", {})
    words = [*kept.get("hydra", []), *kept.get("task", [])]
    elsewhere = ("hydra.mode", "hydra.sweep.dir", "hydra.sweep.subdir", "resume")
    return [word for word in words if key_of(word) not in elsewhere]


def words_of(run: Path) -> list[str]:
    """The words that a run was started with.

    Raises:
        ThawError: there is no run.
    """
    path = run / ".hydra" / "overrides.yaml"
    if not run.is_dir():
        raise ThawError(f"resume={run}: no such directory; a run is outputs/<date>/<time>.")
    words = loaded(path)
    if words is None or not ((run / "versions.json").exists() or noted(run) == words):
        inside = ", ".join(sorted(p.name for p in run.iterdir())) or "nothing"
        raise ThawError(f"resume={run}: no run began there; it holds {inside}.")
    return [word for word in words if key_of(word) != "resume"]


def noted(run: Path, of: str = "task") -> Any:
    """The words as Hydra notes them in its other file: a kill may have cut off one of the two.

    Args:
        run: the run directory.
        of: task, or hydra: those of its own options.
    """
    notes = loaded(run / ".hydra" / "hydra.yaml") or {}
    return notes.get("hydra", {}).get("overrides", {}).get(of)


def loaded(path: Path) -> Any:
    """The content of a YAML file, interpolations as they stand; None if it is not there."""
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False) if path.exists() else None


def require_free(run: Path, own: Sequence[str], new: Sequence[str]) -> None:
    """Raises ThawError if words change what a run gives."""
    began, asked = compose([*own]), compose(replaced(own, new))
    before, after = values(began), values(asked)
    for key in dict.fromkeys([*after, *before]):
        free = any(f"{key}.".startswith(f"{part}.") for part in FREE)
        # The workers of a stream share the corpus out among them.
        free &= key != "data.num_workers" or not after.get("data.streaming")
        if not free and before.get(key) != after.get(key):
            was, wanted = value(began, key), value(asked, key)
            raise ThawError(
                f"{' '.join(new)}: a run goes on as it began, and {key} is {was!r} in {run}, not "
                f"{wanted!r}. Free to change are {', '.join(FREE)}. Anything else is a new run: "
                "leave resume= out."
            )


def value(cfg: Any, key: str) -> Any:
    """What a key is, or as it stands where Hydra alone knows."""
    try:
        return OmegaConf.select(cfg, key)
    except OmegaConfBaseException:
        return values(cfg)[key]


def values(node: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of a config by dotted key, interpolations as they stand."""
    if not prefix:
        node = OmegaConf.to_container(node, resolve=False)
    if not isinstance(node, Mapping) or not node:
        return {prefix: node}
    found: dict[str, Any] = {}
    for key, child in node.items():
        found |= values(child, f"{prefix}.{key}" if prefix else str(key))
    return found


def key_of(word: str) -> str:
    """What an override sets."""
    return word.lstrip("+~").partition("=")[0]


def quoted(path: Path) -> str:
    """A path as a value in Hydra's grammar, whatever is in it."""
    escaped = str(path).replace("'", r"\'")
    return f"'{escaped}'"


def unquoted(value: str) -> str:
    """The reverse of `quoted`."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1].replace(r"\'", "'")
    return value
