"""Lets modules of a model run another forward for a while: the one place where thaw does it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import nn


@contextmanager
def replaced_forwards(forwards: Mapping[nn.Module, Callable]) -> Iterator[None]:
    """Replaces the forward of some modules, compiled or not, each by a function without `self`;
    hooks run as they do otherwise."""
    before = {m: (vars(m).get("forward"), m._compiled_call_impl) for m in forwards}
    for module, forward in forwards.items():
        module.forward, module._compiled_call_impl = forward, None
    try:
        yield
    finally:
        for module, (own, compiled) in before.items():
            del module.forward  # the one of its class is back
            module._compiled_call_impl = compiled
            if own is not None:  # another library had replaced it
                module.forward = own
