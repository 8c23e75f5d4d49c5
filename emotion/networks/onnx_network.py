"""Emotion networks as ONNX files, run by ONNX Runtime (`pip install 'showmood[onnx]'`)."""

import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from emotion.errors import WeightsError, WrongNetwork
from emotion.weights.records import EmotionModel

_log = logging.getLogger(__name__)

_FLOAT: Final = "tensor(float)"
_MEMORY: Final = ("failed to allocate memory", "out of memory", "bfcarena")


class OnnxNetwork:
    """One ONNX file: maps (M, C, S, S) to (M, outputs), on the CPU or CUDA."""

    def __init__(self, model: EmotionModel, data: bytes, device: torch.device) -> None:
        """Open the file.

        data: of a file without external data. Raises WeightsError if ONNX Runtime is not
        installed, WrongNetwork if the file does not match the record.
        """
        try:
            import onnxruntime
        except ImportError as e:
            raise WeightsError(
                f"{model.name} needs ONNX Runtime: pip install 'showmood[onnx]'"
            ) from e
        self._errors = _errors()
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda":
            if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
                providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
            else:
                _log.warning(
                    "%s runs on the CPU: this ONNX Runtime has no CUDA (onnxruntime-gpu has)",
                    model.name,
                )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors are raised
        # Spinning threads would starve ffmpeg and Postgres.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=providers)
        except self._errors as e:
            raise WrongNetwork(f"{model.name} is not a usable ONNX file: {_line(e)}") from e
        self._model = model
        self._input = self._check()

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return float32 (M, outputs) of float32 (M, C, S, S).

        Raises torch.OutOfMemoryError as torch would, and WrongNetwork if the number of outputs
        differs from the number of classes.
        """
        model = self._model
        array = np.ascontiguousarray(pictures.cpu().numpy(), dtype=np.float32)
        try:
            (outputs,) = self._session.run(None, {self._input: array})
        except self._errors as e:
            message = _line(e)
            if any(mark in message.lower() for mark in _MEMORY):
                raise torch.OutOfMemoryError(message) from e
            raise WrongNetwork(f"{model.name} cannot be run: {message}") from e
        wanted = (len(array), len(model.classes))
        if outputs.shape != wanted:
            raise WrongNetwork(f"{model.name} returned {outputs.shape} where {wanted} is expected")
        return torch.from_numpy(outputs).to(pictures.device)

    def _check(self) -> str:
        """Return the input's name; raise WrongNetwork unless input and output match the record."""
        model, session = self._model, self._session
        inputs, outputs = session.get_inputs(), session.get_outputs()
        channels = 1 if model.colour == "gray" else 3
        wanted_in = (None, channels, model.input_px, model.input_px)
        wanted_out = (None, len(model.classes))
        for what, found, wanted in (("input", inputs, wanted_in), ("output", outputs, wanted_out)):
            if len(found) != 1:
                names = ", ".join(one.name for one in found)
                raise WrongNetwork(
                    f"{model.name} must have one {what}, but has {len(found)}: {names}"
                )
            if found[0].type != _FLOAT or not _fits(found[0].shape, wanted):
                raise WrongNetwork(
                    f"{model.name}: its {what} {found[0].name} is {found[0].type} "
                    f"{_shape(found[0].shape)} where {_FLOAT} {_shape(wanted)} is expected"
                )
        return str(inputs[0].name)


def _fits(shape: list[Any], wanted: tuple[int | None, ...]) -> bool:
    """Return whether a shape matches; names and None stand for any length.

    The first dimension, the batch, must be dynamic.
    """
    if len(shape) != len(wanted) or isinstance(shape[0], int):
        return False
    pairs = list(zip(shape, wanted, strict=True))[1:]
    return all(not isinstance(have, int) or have == want for have, want in pairs)


def _shape(shape: Sequence[object]) -> str:
    return f"({', '.join('any' if not isinstance(n, int) else str(n) for n in shape)})"


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def _errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of ONNX Runtime, which have no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = [kind for kind in vars(state).values() if isinstance(kind, type)]
    own = [kind for kind in kinds if issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError)
