"""LoRA: trains adapters of low rank beside linear layers of a frozen encoder (Hu et al. 2022).

The adapters are peft's. A checkpoint holds them and the head alone: the rest are the weights of
`model.checkpoint`. The exported model has them merged into its weights.
"""

import copy
import hashlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from thaw.encoder.blocks import encoder, half_of_each_parameter
from thaw.encoder.freeze import FreezeStrategy
from thaw.errors import ThawError
from thaw.storage.files import atomic

log = logging.getLogger(__name__)

# What architectures call their layers of queries and values, which the paper adapts (section 4.2).
QUERIES_AND_VALUES = (
    *("query", "query_proj", "q_proj", "q_lin", "q"),
    *("value", "value_proj", "v_proj", "v_lin", "v"),
    *("Wqkv", "in_proj", "qkv_proj"),
)
ALL = "all-linear"  # peft's word
BASE = "base_sha256"  # of the weights that a checkpoint leaves out


class LoRA(FreezeStrategy):
    """Adapters of low rank and the head train.

    All of the encoder keeps its dropout in training, as under peft. As adapters train in every
    block, no output of frozen blocks is cached.

    Args:
        rank: rank of an adapter.
        alpha: factor of the adapters' output, which is multiplied by alpha / rank.
        dropout: dropout before an adapter.
        target_modules: last parts of the names of the linear layers that get an adapter, or
            "all-linear" for all of the encoder; None: those of queries and values.
    """

    why_not_sharded = "freeze=lora trains layers within the frozen ones that fsdp would split"

    def __init__(
        self,
        rank: PositiveInt = 8,
        alpha: PositiveFloat = 16,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        target_modules: Sequence[str] | str | None = None,
    ) -> None:
        super().__init__()
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.target_modules = target_modules
        self.tuner: Any = None

    def __call__(self, model: PreTrainedModel) -> None:
        try:
            from peft import LoraConfig, LoraModel
        except ModuleNotFoundError as error:
            raise ThawError("freeze=lora needs peft: pip install -e '.[lora]'.") from error
        layers = adapted_layers(model, self.target_modules)
        head = [n for n, half in half_of_each_parameter(model).items() if half == "head"]
        options: Any = {"lora_alpha": self.alpha, "lora_dropout": self.dropout}
        config = LoraConfig(r=self.rank, target_modules=layers, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
            self.tuner = LoraModel(model, config, "default")
        for name in head:
            model.get_parameter(name).requires_grad_(True)
        kinds = ", ".join(sorted({name.rpartition(".")[2] for name in layers}))
        log.info(
            "freeze=lora: %d linear layers (%s) have adapters. No output of frozen blocks is "
            "cached, as adapters train in every block. They take about ten times the learning rate "
            "of full fine-tuning: task.learning_rate",
            len(layers),
            kinds,
        )

    def without_dropout(self, model: PreTrainedModel) -> list[nn.Module]:
        return []

    def prepare_checkpoints(self, task: nn.Module) -> None:
        """Leaves the frozen weights out of a task's state, and checks that they are the same where
        a state is loaded."""
        found = task.named_parameters(remove_duplicate=False)
        names = [name for name, parameter in found if not parameter.requires_grad]
        digest = hashlib.sha256()
        for parameter in task.parameters():
            if not parameter.requires_grad:
                digest.update(parameter.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
        sha256 = torch.tensor(list(digest.digest()), dtype=torch.uint8)

        def leave_out(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
            for name in names:
                del state[prefix + name]
            state[prefix + BASE] = sha256

        def complete(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
            trained_on = state.pop(prefix + BASE, sha256)
            if not torch.equal(trained_on.cpu(), sha256):
                raise ThawError(
                    "the checkpoint's adapters were trained on other weights than those that "
                    "model.checkpoint holds now: give it the same model as before."
                )
            for name in names:
                state.setdefault(prefix + name, module.get_parameter(name).detach())

        task.register_state_dict_post_hook(leave_out)
        task.register_load_state_dict_pre_hook(complete)

    def exported(self, model: PreTrainedModel, run_dir: Path) -> PreTrainedModel:
        """Writes `adapter`, a directory of peft, and returns a copy of the model with the adapters
        merged into its weights, which loads without peft."""
        heads = trained_heads(model)
        config = copy.copy(self.tuner.peft_config["default"])
        config.modules_to_save = heads or None
        config.base_model_name_or_path = model.name_or_path
        config.inference_mode = True
        saved = tuple(f"{name}." for name in heads)
        state = {
            name.replace(".default.", "."): tensor
            for name, tensor in model.state_dict().items()
            if ".lora_" in name or name.startswith(saved)
        }
        tensors = {f"base_model.model.{k}": v.detach().cpu().clone() for k, v in state.items()}
        with atomic(run_dir / "adapter") as partial:
            config.save_pretrained(partial)
            save_file(tensors, partial / "adapter_model.safetensors", metadata={"format": "pt"})
        return copy.deepcopy(self.tuner).merge_and_unload()


def adapted_layers(model: PreTrainedModel, asked: Sequence[str] | str | None) -> list[str]:
    """Returns the names of the linear layers of a model's encoder, without its head, that get an
    adapter, as `LoRA.target_modules` asks; raises ThawError if there is no layer of a name, or none
    of queries and values."""
    own = {id(module) for part in encoder(model) for module in part.modules()}
    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and id(m) in own]
    ends = [name.rpartition(".")[2] for name in linear]
    wanted = [asked] if isinstance(asked, str) else list(asked or QUERIES_AND_VALUES)
    if asked == ALL:
        wanted = ends
    kind, there = model.config.model_type, ",".join(dict.fromkeys(ends))
    if not there:
        raise ThawError(f"freeze=lora: the encoder of {kind} has no linear layer to adapt.")
    missing = [name for name in wanted if name not in ends] if asked else []
    if missing or not set(wanted) & set(ends):
        said = f"thaw does not know the layers of queries and values of {kind}"
        if missing:
            said = f"the encoder of {kind} has no linear layer {missing[0]!r}"
        raise ThawError(
            f"freeze=lora: {said}. Set freeze.target_modules=[...] with some of [{there}], or "
            f"freeze.target_modules={ALL}."
        )
    return [name for name, end in zip(linear, ends, strict=True) if end in wanted]


def trained_heads(model: PreTrainedModel) -> list[str]:
    """Returns the names of the modules beside the encoder that train, such as `classifier`."""
    base = model.base_model_prefix
    halves = half_of_each_parameter(model)
    trained = [n.split(".") for n, p in model.named_parameters() if p.requires_grad]
    heads = [parts for parts in trained if halves[".".join(parts)] == "head"]
    return sorted({".".join(parts[: 2 if parts[0] == base else 1]) for parts in heads})
