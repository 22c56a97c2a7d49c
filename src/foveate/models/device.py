"""Which devices this machine has, and the one asked for among them."""

from __future__ import annotations

import torch

from foveate.core.errors import ConfigError


def devices() -> list[str]:
    """Names of the devices that PyTorch can use on this machine, `cpu` first."""
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return [*found, "mps"] if torch.backends.mps.is_available() else found


def choose_device(device: str | torch.device | None = None, index: int = 0) -> torch.device:
    """The device asked for, or CUDA where there is one, or the CPU.

    Args:
        device: `cpu`, `cuda`, `cuda:N` or `mps`; None chooses.
        index: Which CUDA device None stands for.

    Raises:
        ConfigError: The device is unknown, or this machine does not have it.
    """
    present = devices()
    if device is None:
        device = f"cuda:{index}" if torch.cuda.is_available() else "cpu"
    # As in PyTorch, `cuda` is its first device and `cpu:0` the only one.
    same = {one.removesuffix(":0") for one in present}
    if str(device) not in {*present, *same, *(f"{one}:0" for one in same if ":" not in one)}:
        raise ConfigError(
            f"device {str(device)!r}: not on this machine", f"it has {', '.join(present)}"
        )
    return torch.device(device)
