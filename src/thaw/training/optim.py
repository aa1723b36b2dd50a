"""Optimizers without decay of biases and norms, and schedules of the learning rate."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_linear_schedule_with_warmup

from thaw.errors import ThawError

# Loshchilov and Hutter 2019; fused, it takes a fifth of the unfused time on a CPU.
ADAMW = partial(torch.optim.AdamW, fused=True)


def decayed(model: nn.Module) -> set[str]:
    """Returns the names of the parameters that weight decay applies to: all but biases and norms.

    transformers.Trainer and the BERT reference code decay the same ones.
    """
    norms = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }
    return {
        name
        for name, _ in model.named_parameters()
        if name not in norms and not name.endswith("bias")
    }


def build_optimizer(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    factors: Mapping[str, float] | None = None,
    besides: Sequence[dict[str, Any]] = (),
    parts: Mapping[str, str] | None = None,
    made: Callable[..., torch.optim.Optimizer] = ADAMW,
) -> torch.optim.Optimizer:
    """Returns an optimizer over the parameters that train; raises ThawError if the class takes no
    groups with rates of their own, or knows no weight decay.

    Args:
        model: model with its head.
        learning_rate: learning rate.
        weight_decay: weight decay of all parameters but biases and norms.
        factors: factor of each parameter's learning rate, by name; None: 1.
        besides: further groups of parameters, with names.
        parts: part of each parameter, by name, which names the groups: "block 3", and "block 3, no
            decay" for its biases and norms; None: "all".
        made: class of the optimizer, or a function that makes one of groups and `lr`.
    """
    names = decayed(model)
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    rates = {n: learning_rate * (factors[n] if factors else 1) for n, _ in trained}

    def label(rate: float) -> str:
        own = [n for n, _ in trained if rates[n] == rate]
        return ", ".join(dict.fromkeys(parts[n] for n in own)) if parts else "all"

    groups = [
        {
            "name": label(rate) + ("" if with_decay else ", no decay"),
            "params": [p for n, p in trained if rates[n] == rate and (n in names) == with_decay],
            "weight_decay": weight_decay if with_decay else 0.0,
            "lr": rate,
        }
        for rate in sorted(set(rates.values()), reverse=True)
        for with_decay in (True, False)
    ]
    try:
        optimizer = made([g for g in [*groups, *besides] if g["params"]], lr=learning_rate)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ThawError(f"optimizer={name_of(made)}: {error}") from error
    if weight_decay and "weight_decay" not in optimizer.defaults:
        raise ThawError(f"optimizer={name_of(made)} knows no weight decay: task.weight_decay=0.")
    return optimizer


def name_of(made: Any) -> str:
    """Returns the name of a class or function, as `_target_` would have it."""
    made = getattr(made, "func", made)
    return f"{made.__module__}.{made.__qualname__}"


def scales_gradients(optimizer: torch.optim.Optimizer) -> bool:
    """Returns whether the optimizer's step, a fused one, divides gradients by `grad_scale` and
    leaves the step out for `found_inf`, as torch's loss scaler asks for."""
    return getattr(optimizer, "_step_supports_amp_scaling", False)


def clip_in_step(
    optimizer: torch.optim.Optimizer, max_norm: float, scaler: torch.amp.GradScaler | None = None
) -> torch.Tensor:
    """Clips the gradients' global norm (Pascanu et al. 2013) within the coming fused step; returns
    the norm before.

    The step, which is to scale gradients, divides each as it reads it, as for a loss scaler, which
    saves the pass over all gradients of `torch.nn.utils.clip_grad_norm_`. The gradients still have
    the scale of a loss `scaler` of float16.
    """
    norm = gradient_norm(optimizer)
    if scaler is not None:
        norm = norm / scaler.scale(torch.ones_like(norm))
    # 1e-6: as in torch's own clipping; the step reads a float32, whatever the weights are
    optimizer.grad_scale = ((norm + 1e-6) / max_norm).clamp(min=1).float()  # type: ignore[attr-defined]
    return norm


def gradient_norm(optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Returns the norm of all gradients together, a scalar on their device."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    grads = [p.grad for p in parameters if p.grad is not None]
    if grads and isinstance(grads[0], DTensor):  # each process has a part of them
        squared = torch.nn.utils.get_total_norm([g.to_local() for g in grads]) ** 2
        torch.distributed.all_reduce(squared)
        return squared.sqrt()
    if grads and grads[0].device.type == "cpu" and grads[0].dtype == torch.float32:
        flat = [g.flatten() for g in grads]
        return torch.stack([g @ g for g in flat]).sum().sqrt()  # half the time of torch's norms
    return torch.nn.utils.get_total_norm(grads)


def build_schedule(
    optimizer: torch.optim.Optimizer,
    steps: float,
    warmup: float,
    made: Callable[..., LRScheduler] = get_linear_schedule_with_warmup,
) -> LRScheduler:
    """Returns a schedule of the learning rates, which changes them after each step; raises
    ThawError if it has no warm-up or needs an end, and training does not fit.

    Args:
        optimizer: the optimizer.
        steps: number of all steps; infinite if nothing but the user ends training.
        warmup: number of steps in which the rates rise.
        made: class or function. It is given all steps as `num_training_steps`, `total_steps` or
            `T_max`, and those of warm-up as `num_warmup_steps`, if it takes them.
    """
    name, takes = name_of(made), inspect.signature(made).parameters
    given = {k: steps for k in ("num_training_steps", "total_steps", "T_max") if k in takes}
    if "num_warmup_steps" in takes:
        given["num_warmup_steps"] = warmup
    elif warmup:
        raise ThawError(f"schedule={name} has no warm-up: task.warmup_steps=0.")
    if math.inf in given.values():
        raise ThawError(
            f"schedule={name} needs the number of steps: set trainer.max_epochs or "
            "trainer.max_steps; schedule=constant with task.warmup_steps needs none."
        )
    try:
        schedule = made(optimizer, **{key: round(number) for key, number in given.items()})
    except (TypeError, ValueError) as error:
        raise ThawError(f"schedule={name}: {error}") from error
    if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise ThawError(f"schedule={name} follows a metric; thaw's schedules follow the steps.")
    return schedule
