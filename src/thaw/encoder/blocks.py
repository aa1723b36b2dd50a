"""Where an encoder's embeddings, blocks and head are: the one place that knows architectures.

A part is `embeddings`, `block 0` to `block <n-1>`, or `head`. A pooler belongs to the head. A
decoder tied to the embeddings is the embeddings' matrix and belongs to them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from thaw.data.summary import aligned
from thaw.errors import ThawError

BLOCKS = {"mpnet": "encoder.layer"}  # where transformers does not mark the blocks
SHARED = ("albert",)  # one block's weights, used again and again
POOLER = "pooler"
NUMBERED = re.compile(r".*?\.\d+\.")


@dataclass(frozen=True)
class EncoderParts:
    """An encoder's modules."""

    # All that comes before the blocks or serves all of them, such as relative positions.
    embeddings: list[nn.Module]
    blocks: list[list[nn.Module]]  # from the embeddings up, the last with the norm that follows it


def encoder_parts(model: PreTrainedModel) -> EncoderParts:
    """Returns the parts of a model with or without a head; raises ThawError if thaw does not know
    the architecture, or its blocks share weights."""
    kind = model.config.model_type
    if kind in SHARED:
        raise ThawError(
            f"the blocks of {kind} share one set of weights, so they cannot train one by one: "
            "freeze=none, freeze=head, or freeze=names 'freeze.train=[*classifier*]'."
        )
    base = model.base_model
    path = BLOCKS.get(kind) or marked_blocks(base)
    if not path:
        raise ThawError(
            f"thaw does not know where the blocks of {kind} are: transformers marks no single list "
            f"of them. Set freeze=head, or freeze=names 'freeze.train=[{','.join(example(model))}]'"
            " with names from `python -m thaw.parameters`."
        )
    blocks = [[block] for block in base.get_submodule(path).children()]
    beside = modules_beside(base, path)
    # DeBERTa's norm is of the relative positions.
    last = [] if kind.startswith("deberta") else [m for m in beside if "Norm" in type(m).__name__]
    blocks[-1] += last
    return EncoderParts([m for m in beside if m not in last], blocks)


def marked_blocks(base: nn.Module) -> str:
    """Returns the path of the one list of blocks that transformers can checkpoint, else ""."""
    lists = [
        name
        for name, module in base.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module)
        and all(isinstance(block, GradientCheckpointingLayer) for block in module)
    ]
    return lists[0] if len(lists) == 1 else ""


def modules_beside(base: nn.Module, path: str) -> list[nn.Module]:
    """Returns the modules beside those on a path, at each of its levels, but no pooler."""
    found: list[nn.Module] = []
    for name in path.split("."):
        found += [m for n, m in base.named_children() if n not in (name, POOLER)]
        base = base.get_submodule(name)
    return found


def example(model: PreTrainedModel) -> list[str]:
    """Returns patterns of the last numbered module of the encoder and of the head."""
    halves = half_of_each_parameter(model)
    numbered = [m[0] for n in halves if halves[n] == "encoder" and (m := NUMBERED.match(n))]
    head = [n.rpartition(".")[0] + "." for n in halves if halves[n] == "head"]
    return [f"{name}*" for name in dict.fromkeys([*numbered[-1:], *head])]


def part_of_each_parameter(model: PreTrainedModel) -> dict[str, str]:
    """Returns the part of each parameter, by its name; raises ThawError, see `encoder_parts`."""
    parts = encoder_parts(model)
    named = [("embeddings", parts.embeddings)]
    named += [(f"block {i}", block) for i, block in enumerate(parts.blocks)]
    return name_of_each_parameter(model, named)


def parts_or_halves(model: PreTrainedModel) -> dict[str, str]:
    """Returns the part of each parameter, `encoder` or `head` where the blocks are not known."""
    try:
        return part_of_each_parameter(model)
    except ThawError:
        return half_of_each_parameter(model)


def half_of_each_parameter(model: PreTrainedModel) -> dict[str, str]:
    """Returns `encoder` or `head` for each parameter of any architecture, by its name."""
    return name_of_each_parameter(model, [("encoder", encoder(model))])


def encoder(model: PreTrainedModel) -> list[nn.Module]:
    """Returns the modules of any architecture's encoder: all but head and pooler."""
    return [module for name, module in model.base_model.named_children() if name != POOLER]


def name_of_each_parameter(
    model: nn.Module, named: list[tuple[str, list[nn.Module]]]
) -> dict[str, str]:
    """Returns the name of the modules that hold each parameter, `head` for the rest."""
    part = {
        id(p): name for name, modules in named for module in modules for p in module.parameters()
    }
    return {name: part.get(id(p), "head") for name, p in model.named_parameters()}


def factor_of_each_part(parts: Mapping[str, str], layer_decay: float) -> dict[str, float]:
    """Returns the factor of each part's learning rate: 1 for the head, `layer_decay` for the last
    block, its square for the one below, and so on down to the embeddings.

    Layer-wise decay as in ELECTRA (Clark et al. 2020, appendix A) and BEiT.
    """
    found = list(dict.fromkeys(parts.values()))
    blocks = sorted((p for p in found if p.startswith("block ")), key=lambda p: int(p[6:]))
    ladder = ["head", *reversed(blocks), "embeddings"]
    return {part: layer_decay**height for height, part in enumerate(ladder)}


def learning_rate_factors(model: PreTrainedModel, layer_decay: float) -> dict[str, float] | None:
    """Returns the factor of each parameter's learning rate, by name; None if all are 1. Raises
    ThawError if the architecture has no blocks that thaw knows, see `encoder_parts`."""
    if layer_decay == 1:
        return None
    parts = part_of_each_parameter(model)
    factors = factor_of_each_part(parts, layer_decay)
    return {name: factors[part] for name, part in parts.items()}


def parameter_table(task: Any) -> str:
    """Returns `parameter_rows` as text, a line each."""
    return "\n".join(aligned(parameter_rows(task), right=False))


def parameter_rows(task: Any) -> list[tuple[str, ...]]:
    """Returns, for each part, its number of parameters, whether they train, and how fast: first the
    names of the columns, then the parts from the embeddings up."""
    model = task.model
    parts = parts_or_halves(model)
    factors = factor_of_each_part(parts, task.layer_decay)
    later = {
        id(p): i for i, s in enumerate(task.unfreeze_stages, 1) for m in s for p in m.parameters()
    }
    lines: list[tuple[str, ...]] = [("part", "parameters", "trains", "learning rate")]
    for part in in_order(set(parts.values())):
        own = [p for n, p in model.named_parameters() if parts[n] == part]
        count, open_ = sum(p.numel() for p in own), sum(p.numel() for p in own if p.requires_grad)
        stage = max((later.get(id(p), 0) for p in own), default=0)
        trains = "frozen" if not open_ else "trained" if open_ == count else f"{open_:,} of them"
        trains = f"from stage {stage} on" if open_ and stage else trains
        rate = f"{task.learning_rate * factors.get(part, 1.0):.3g}" if open_ else ""
        lines.append((part, f"{count:,}", trains, rate))
    groups = [(g["name"].partition(",")[0], g) for g in task.head_groups()]
    if groups:  # a pooler, if there is one, is passed by
        lines = [line for line in lines if line[0] != "head"]
    for name in dict.fromkeys(name for name, _ in reversed(groups)):
        own = [g for part, g in groups if part == name]
        count = sum(p.numel() for g in own for p in g["params"])
        lines.append((name, f"{count:,}", "trained", f"{own[0]['lr']:.3g}"))
    return lines


def in_order(parts: Iterable[str]) -> list[str]:
    """Returns parts from the embeddings up."""
    ranks = {"embeddings": -1, "encoder": -1, "head": 10**6}
    return sorted(parts, key=lambda p: ranks[p] if p in ranks else int(p.removeprefix("block ")))
