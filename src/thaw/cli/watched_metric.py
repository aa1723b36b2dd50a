"""The watched metric, checked before a run trains for it in vain."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from thaw.cli.messages import near
from thaw.cli.static_signatures import NotFound, based_on, collect, locate
from thaw.errors import ThawError

TRAINED = "train/loss"  # what every task logs while it trains


def require_watched(cfg: Mapping[str, Any], metrics: Mapping[str, str] | None = None) -> None:
    """Raises ThawError if a metric is watched that will not exist, or whose worst value would win.

    Args:
        cfg: the composed config, as plain containers.
        metrics: which of its values is better, "max" or "min", by name without `val/`; None: of
            the task's class, whatever the data will be; empty: not known, and nothing is checked.
    """
    if cfg.get("resume") is not None:  # it began before, and cannot be changed
        return
    declared = metrics_of(cfg["task"]["_target_"]) if metrics is None else dict(metrics)
    if not declared:
        return
    known = {f"val/{name}": mode for name, mode in declared.items()} | {TRAINED: "min"}
    for option, name, key, mode in watched(cfg):
        if name not in known:
            there = ", ".join(known)
            hint = near(name.replace("val_", "val/").lower(), list(known))
            raise ThawError(
                f"{option}={name}: there is no such metric.{hint} It is one of {there}."
            )
        if mode != known[name]:
            word = "larger" if known[name] == "max" else "smaller"
            raise ThawError(
                f"{option}={name} with {key}={mode} would keep the worst weights: of {name}, a "
                f"{word} value is better. Add {key}={known[name]}."
            )


def watched(cfg: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yields what is watched: an option and its value, the option of the mode and its value."""
    monitor, mode = cfg.get("monitor"), cfg.get("monitor_mode")
    if monitor is not None:
        yield "monitor", str(monitor), "monitor_mode", str(mode)
    for name, node in (cfg.get("callbacks") or {}).items():
        if isinstance(node, dict) and node.get("monitor") is not None:
            path = f"callbacks.{name}"
            # The default of Lightning's callbacks.
            yield f"{path}.monitor", str(node["monitor"]), f"{path}.mode", node.get("mode", "min")


def metrics_of(target: str) -> dict[str, str]:
    """The metrics that a task's class declares as `metrics`, read from its source; none: {}."""
    try:
        module, node = locate(target)
        while isinstance(node, ast.ClassDef):
            names: dict[str, ast.AST] = {}
            collect(node.body, names)
            if "metrics" in names:
                found = ast.literal_eval(names["metrics"])  # type: ignore[arg-type]
                return dict(found) if isinstance(found, dict) else {}
            module, node = based_on(module, node.bases[0])
    except (NotFound, IndexError, ValueError):
        pass  # of a class without source, or of none
    return {}
