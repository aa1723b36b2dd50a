"""`trainer=fsdp`: each process keeps a part of weights, gradients and moments, for a model that
does not fit on one device (FSDP; Zhao et al. 2023).

Lightning's FSDP2 (`ModelParallelStrategy`, torch's `fully_shard`), which runs on CPUs too. The
weights of a block come together for its forward and backward pass; those outside, for the step.
"""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed import fsdp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from thaw.encoder.blocks import encoder_parts
from thaw.errors import ThawError

log = logging.getLogger(__name__)

STEPS = ("training_step", "validation_step", "test_step")


def sharded(task: Any) -> bool:
    """Returns whether a task's weights are sharded."""
    return isinstance(task, fsdp.FSDPModule)


def shard(task: Any) -> None:
    """Shards a task's weights block by block, unless they are already."""
    if sharded(task):
        return
    mesh = task.device_mesh["data_parallel"]
    try:
        blocks = [modules[0] for modules in encoder_parts(task.model).blocks]
    except ThawError:
        log.warning("the blocks of this model are not known: all its weights come together")
        blocks = []
    for block in blocks:
        fsdp.fully_shard(block, mesh=mesh)
    fsdp.fully_shard(task, mesh=mesh)
    for name in STEPS:
        fsdp.register_fsdp_forward_method(task, name)


def load_whole(task: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Loads whole weights into a task, sharded or not; called on every process."""
    if sharded(task):
        set_model_state_dict(task, dict(state), options=StateDictOptions(full_state_dict=True))
    else:
        task.load_state_dict(state)


def load_whole_optimizer(task: Any, optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Loads the whole state of the optimizer of a sharded task; called on every process."""
    to_names = fsdp.FullyShardedDataParallel.rekey_optim_state_dict
    named = to_names(state, fsdp.OptimStateKeyType.PARAM_NAME, task)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_optimizer_state_dict(task, optimizer, named, options=options)


def whole_model(task: Any) -> Any:
    """Returns a task's model, in the first process with whole weights, to export; call it on every
    process."""
    if not sharded(task):
        return task.model
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(task, options=options)
    if not task.trainer.is_global_zero:
        return task.model
    whole = type(task.model)(task.model.config)
    own = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
    whole.load_state_dict(own)
    return whole.eval()
