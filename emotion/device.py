"""The device of the networks, their placement and batch sizes."""

import ctypes
import logging
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from emotion.errors import WrongNetwork
from emotion.types import EmotionError, UInt8

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_N = TypeVar("_N", bound=nn.Module)
_SHOWN: Final = 3
# glibc, `malloc.h`: M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
_MEMORY: Final = ((-8, 1), (-3, 16 << 20), (-1, 64 << 20))


class DeviceError(EmotionError):
    """The device does not exist, or has too little memory."""


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of this name; "auto" is the first CUDA device, or else the CPU.

    Raises DeviceError for an unknown name or a device that this machine lacks.
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


def half_type(device: torch.device) -> torch.dtype | None:
    """Return the half-precision type in which this device computes faster; None if none.

    None for CPUs without native instructions for it, where it is slower than float32.
    """
    if device.type == "cuda":
        return torch.float16
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return torch.bfloat16
    return None


def pool_memory() -> bool:
    """Configure glibc to use one malloc arena and keep free memory; False without glibc.

    By default each thread has its own arena, which keeps its peak size, and large blocks are
    returned to the system: page faults then take a tenth of a segment's time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
        return all(mallopt(what, value) for what, value in _MEMORY)
    except (AttributeError, OSError, TypeError):  # no glibc
        return False


def bring(images: UInt8, device: torch.device) -> Tensor:
    """Return the pictures on the device, in one transfer; without a copy on the CPU."""
    return torch.from_numpy(np.require(images, requirements=("C", "W"))).to(device)


def place(network: _N, weights: Mapping[str, Tensor], device: torch.device, *, name: str) -> _N:
    """Return the network with these weights, on the device, in evaluation mode.

    Raises WrongNetwork, one line with the first differences, if the weights do not fit, or
    are not finite.
    """
    own = network.state_dict()
    needed = {key for key in own if not key.endswith(".num_batches_tracked")}  # only to train
    problems = [f"{key} is missing" for key in needed - weights.keys()]
    problems += [f"{key} is unknown" for key in weights.keys() - own.keys()]
    problems += [
        f"{key} is {tuple(weights[key].shape)} where {tuple(own[key].shape)} is expected"
        for key in own.keys() & weights.keys()
        if weights[key].shape != own[key].shape
    ]
    problems += [f"{key} is not finite" for key, t in weights.items() if not t.isfinite().all()]
    if problems:
        first = "; ".join(sorted(problems)[:_SHOWN])
        rest = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise WrongNetwork(f"these are not the weights of {name}: {first}{rest}")
    network.load_state_dict(weights)
    network.eval().to(device)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class Batches:
    """Runs work in batches whose size is reduced permanently after out-of-memory errors."""

    def __init__(self, what: str) -> None:
        """Start without a limit. what: name of the items, for the log."""
        self._what = what
        self._limit: int | None = None

    def over(self, n: int, size: int, run: Callable[[slice], _T]) -> list[_T]:
        """Return the results of `run` for slices that cover `n` items, at most `size` each.

        If the device runs out of memory, the batch size is halved permanently.
        Raises DeviceError if there is not enough memory for one item.
        """
        results: list[_T] = []
        first = 0
        while first < n:
            at_once = max(1, min(size, self._limit or size, n - first))
            try:
                results.append(run(slice(first, first + at_once)))
                first += at_once
                continue
            except torch.OutOfMemoryError as e:
                if at_once == 1:
                    cause = str(e).splitlines()[0] if str(e) else "out of memory"
                    raise DeviceError(
                        f"the device has not enough memory for one of the {self._what}: "
                        f"take smaller pictures, another network or another device ({cause})"
                    ) from e
            # Outside of `except`, so that the traceback no longer holds the tensors.
            self._limit = at_once // 2
            _log.warning(
                "out of memory with a batch of %d %s: batches of %d from now on",
                at_once,
                self._what,
                self._limit,
            )
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return results
