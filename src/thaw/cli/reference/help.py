"""Writes the options of a config for `python train.py --help`, with types and meanings."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from thaw.cli.schema import describe, schema
from thaw.cli.secrets import redacted

COLUMN = 44  # where meanings begin


def options_help(cfg: DictConfig) -> str:
    """Returns a line for each option: `${thaw.options:}` in `conf/hydra/help/thaw.yaml`."""
    options = redacted(OmegaConf.to_container(cfg, resolve=False))
    options = {key: value for key, value in options.items() if key != "hydra"}
    return "\n".join(help_lines(options, schema(), "")).replace("$", "$$")  # for string.Template


def help_lines(node: Mapping[str, Any], known: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Yields the lines of a mapping of options."""
    takes_more = known.get("additionalProperties", True)
    for key, value in node.items():
        option = follow(known.get("properties", {}).get(key, {}))
        if key == "_target_" or (not takes_more and key not in known["properties"]):
            continue  # what another task reads of the data
        # A mapping that is not empty holds options of its own.
        own = value if isinstance(value, Mapping) else {}
        inner = schema()["definitions"].get(own.get("_target_", key), {}) if own else {}
        if own and (inner or not option):
            yield with_meaning(f"{indent}{key}:", option.get("description", ""))
            yield from help_lines(own, inner, f"{indent}  ")
        else:
            flow = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
            flow = flow.removesuffix("...\n").strip()
            meaning = "; ".join(filter(None, [describe(option), option.get("description", "")]))
            yield with_meaning(f"{indent}{key}: {flow}", meaning)


def follow(option: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the schema of an option that refers to that of a constructor's argument."""
    while "$ref" in option:
        found: Any = schema()
        for part in option["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        option = found
    return option


def with_meaning(text: str, meaning: str) -> str:
    """Returns a line with a meaning beside the option."""
    return f"{text:{COLUMN}} # {meaning}" if meaning else text
