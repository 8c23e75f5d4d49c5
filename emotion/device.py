"""Where the networks run."""

import torch

from emotion.types import EmotionError


class DeviceError(EmotionError):
    """No such device here."""


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of this name; "auto" is the first CUDA device, or else the CPU.

    Raises DeviceError where the name means nothing or the machine has no such device.
    """
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", 0) if n_cuda else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as e:
        raise DeviceError(f"no device is called {name!r}: use auto, cpu or cuda") from e
    if device.type == "cuda" and (device.index or 0) < n_cuda:
        return torch.device("cuda", device.index or 0)
    if device.type == "cpu":
        return torch.device("cpu")
    has = ", ".join(["cpu", *(f"cuda:{i}" for i in range(n_cuda))])
    raise DeviceError(f"there is no device {name!r} here: this machine has {has}")
