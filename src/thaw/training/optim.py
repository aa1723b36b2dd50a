"""AdamW without decay of biases and norms, and the linear schedule."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import get_linear_schedule_with_warmup


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


def adamw(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    factors: Mapping[str, float] | None = None,
    besides: Sequence[dict[str, Any]] = (),
    parts: Mapping[str, str] | None = None,
) -> torch.optim.AdamW:
    """Returns AdamW (Loshchilov and Hutter 2019) over the parameters that train.

    It is fused, which takes a fifth of the unfused time on a CPU.

    Args:
        model: model with its head.
        learning_rate: learning rate.
        weight_decay: weight decay of all parameters but biases and norms.
        factors: factor of each parameter's learning rate, by name; None: 1.
        besides: further groups of parameters, with names.
        parts: part of each parameter, by name, which names the groups: "block 3", and "block 3, no
            decay" for its biases and norms; None: "all".
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
    return torch.optim.AdamW(
        [g for g in [*groups, *besides] if g["params"]], lr=learning_rate, fused=True
    )


def clip_in_step(
    optimizer: torch.optim.Optimizer, max_norm: float, scaler: torch.amp.GradScaler | None = None
) -> torch.Tensor:
    """Clips the gradients' global norm (Pascanu et al. 2013) within the coming fused step.

    The step divides each gradient as it reads it, as for a loss scaler, which saves the pass over
    all gradients of `torch.nn.utils.clip_grad_norm_`.

    Args:
        optimizer: optimizer of `adamw`.
        max_norm: largest norm of all gradients together.
        scaler: loss scaler of float16, whose scale the gradients still have.

    Returns:
        The norm before clipping.
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
    grads = [p.grad.flatten() for p in parameters if p.grad is not None]
    if grads and isinstance(grads[0], DTensor):  # each process has a part of them
        squared = torch.nn.utils.get_total_norm([g.to_local() for g in grads]) ** 2
        torch.distributed.all_reduce(squared)
        return squared.sqrt()
    if grads and grads[0].device.type == "cpu" and grads[0].dtype == torch.float32:
        return torch.stack([g @ g for g in grads]).sum().sqrt()  # half the time of torch's norms
    return torch.nn.utils.get_total_norm(grads)


def linear_schedule(
    optimizer: torch.optim.Optimizer, steps: int, warmup_ratio: float
) -> torch.optim.lr_scheduler.LambdaLR:
    """Returns a schedule of linear warm-up over `warmup_ratio` of all `steps`, then linear decay to
    0."""
    return get_linear_schedule_with_warmup(optimizer, round(warmup_ratio * steps), steps)
