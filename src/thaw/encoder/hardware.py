"""What this machine computes with: its device, and whether that has bfloat16 in silicon."""

from pathlib import Path

import torch

from thaw.errors import ThawError

# AMX and AVX512-bf16 of x86, the matrix and vector units of ARM: /proc/cpuinfo's names.
BF16_UNITS = ("amx_bf16", "avx512_bf16", "bf16")


def torch_device(accelerator: str) -> torch.device:
    """Returns the device of an accelerator: auto, cpu, gpu, cuda or mps; raises ThawError if there
    is no such accelerator, or this machine has none."""
    found = device_type(accelerator)
    there = {
        "cpu": True,
        "gpu": False,  # `device_type` says which, if there is one
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if found not in there:
        raise ThawError(f"accelerator={accelerator}: expected auto, {', '.join(there)}.")
    if not there[found]:
        raise ThawError(
            f"accelerator={accelerator}: torch finds no such device here; accelerator=cpu works "
            "everywhere."
        )
    return torch.device(found)


def device_type(accelerator: str) -> str:
    """Returns the device type, cuda, mps or cpu, that Lightning chooses for an accelerator."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu" if accelerator == "auto" else accelerator


def bf16_units(device: str) -> str:
    """Returns what computes bfloat16 natively on a device of `device_type`, "" if nothing does."""
    if device == "cuda":
        there = torch.cuda.is_bf16_supported(including_emulation=False)
        return f"{torch.cuda.get_device_name()} has bfloat16 units" if there else ""
    if device != "cpu":
        return ""
    path = Path("/proc/cpuinfo")
    found = cpu_units(path.read_text(encoding="utf-8")) if path.exists() else []
    return f"this CPU has {' and '.join(found)}" if found else ""


def cpu_units(cpuinfo: str) -> list[str]:
    """Returns the flags of bfloat16 units that every processor of /proc/cpuinfo has."""
    lines = [set(line.split()) for line in cpuinfo.splitlines() if line[:5] in ("flags", "Featu")]
    return [unit for unit in BF16_UNITS if lines and all(unit in flags for flags in lines)]
