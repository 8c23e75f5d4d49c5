"""Converts original weight files to tensors by name; parsers are imported only when needed.

No downloaded code is run: a bytes constant is read with `ast.literal_eval`, ONNX with `onnx`
(data only), Keras HDF5 with `h5py`, a torch checkpoint with torch's `weights_only`, which allows
only tensors and containers.
"""

import ast
import io
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.float32]]


def bytes_constant(source: bytes, name: str) -> bytes:
    """Return the bytes literal that Python source assigns to `name`, without running it.

    Raises ValueError if there is no such literal.
    """
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in node.targets
        ):
            value = ast.literal_eval(node.value)
            if isinstance(value, bytes):
                return value
    raise ValueError(f"no bytes constant {name}")


def retinaface_onnx(data: bytes) -> Tensors:
    """Return the weights of yakhyo's `retinaface_mv1_0.25.onnx`, named as `RetinaFace` has them.

    The names come from the nodes (`/fpn/merge1/merge1.0/Conv` is `fpn.merge1.0`). The exporter
    wrote each 5x5 context convolution twice, with the same weights behind Identity nodes.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(data).graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    alias = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity"}
    tensors: Tensors = {}
    seen: set[str] = set()
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        weight, bias = (alias.get(name, name) for name in node.input[1:])
        if weight in seen:
            continue
        seen.add(weight)
        top, *_, layer, _ = node.name.strip("/").split("/")
        prefix = {"fx": "body."}.get(top, "" if layer.startswith(f"{top}.") else f"{top}.")
        tensors[f"{prefix}{layer}.weight"] = values[weight]
        tensors[f"{prefix}{layer}.bias"] = values[bias]
    return tensors


def mini_xception_keras(data: bytes) -> Tensors:
    """Return the weights of oarriaga's `fer2013_mini_XCEPTION.102-0.66.hdf5` for `MiniXception`.

    Keras keeps kernels as height, width, in, out (depthwise: height, width, channels, 1). Layers
    are numbered in the order they were made: in block i the shortcut comes first.
    """
    import h5py

    tensors: Tensors = {}
    with h5py.File(io.BytesIO(data), "r") as file:
        root = file["model_weights"]

        def read(layer: str, value: str) -> NDArray[np.float32]:
            return np.asarray(root[f"{layer}/{layer}_1/{value}:0"], dtype=np.float32)

        def convolution(name: str, layer: str) -> None:
            tensors[f"{name}.weight"] = read(layer, "kernel").transpose(3, 2, 0, 1)

        def norm(name: str, number: int) -> None:
            layer = f"batch_normalization_{number}"
            for ours, keras in (
                ("weight", "gamma"),
                ("bias", "beta"),
                ("running_mean", "moving_mean"),
                ("running_var", "moving_variance"),
            ):
                tensors[f"{name}.{ours}"] = read(layer, keras)

        for i in (1, 2):
            convolution(f"stem.conv{i}", f"conv2d_{i}")
            norm(f"stem.norm{i}", i)
        for i in (1, 2, 3, 4):
            block = f"blocks.{i - 1}"
            convolution(f"{block}.shortcut", f"conv2d_{i + 2}")
            norm(f"{block}.shortcut_norm", 3 * i)
            for j in (1, 2):
                layer = f"separable_conv2d_{2 * i - 2 + j}"
                for ours, keras in (("depthwise", "depthwise"), ("pointwise", "pointwise")):
                    axes = (2, 3, 0, 1) if ours == "depthwise" else (3, 2, 0, 1)
                    kernel = read(layer, f"{keras}_kernel").transpose(axes)
                    tensors[f"{block}.separable{j}.{ours}.weight"] = kernel
                norm(f"{block}.norm{j}", 3 * i + j)
        convolution("head", "conv2d_7")
        tensors["head.bias"] = read("conv2d_7", "bias")
    return tensors


def retinaface_resnet50(data: bytes) -> Tensors:
    """Return the weights of a ResNet50 checkpoint of ternaus/retinaface for `RetinaFace`.

    data: a state dict as torch saves it, also in a zip file of its own. The keys are those of
    biubug6/Pytorch_Retinaface too, which may begin with `module.` and lie under `state_dict`.
    Each batch norm is folded into the convolution before it. Raises ValueError for anything else.
    """
    state = _checkpoint(data)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    tensors: Tensors = {}
    for key in [key for key in state if key.endswith(".weight") and state[key].ndim == 4]:
        name = key.removesuffix(".weight")
        weight = state[key].astype(np.float64)
        norm = _norm_after(name)
        try:
            if norm is None:
                tensors[f"{_ours(name)}.weight"] = weight.astype(np.float32)
                tensors[f"{_ours(name)}.bias"] = state[f"{name}.bias"].astype(np.float32)
                continue
            gamma, beta, mean, variance = (
                state[f"{norm}.{value}"].astype(np.float64)
                for value in ("weight", "bias", "running_mean", "running_var")
            )
        except KeyError as e:
            raise ValueError(f"not a checkpoint of RetinaFace: no {e.args[0]}") from e
        scale = gamma / np.sqrt(variance + _EPSILON)
        tensors[f"{_ours(name)}.weight"] = (weight * scale[:, None, None, None]).astype(np.float32)
        tensors[f"{_ours(name)}.bias"] = (beta - mean * scale).astype(np.float32)
    return tensors


_EPSILON: Final = 1e-5  # of torch's BatchNorm2d
_HEADS: Final = {
    "ClassHead": "class_head",
    "BboxHead": "bbox_head",
    "LandmarkHead": "landmark_head",
}


def _ours(name: str) -> str:
    """Return our name of a convolution: `ClassHead.0.conv1x1` is `class_head.0`."""
    top, _, rest = name.partition(".")
    return f"{_HEADS[top]}.{rest.removesuffix('.conv1x1')}" if top in _HEADS else name


def _norm_after(name: str) -> str | None:
    """Return the name of the batch norm behind a convolution; None behind a head's."""
    parent, _, last = name.rpartition(".")
    if last.startswith("conv") and name.startswith("body."):
        return f"{parent}.bn{last.removeprefix('conv')}"
    return f"{parent}.{int(last) + 1}" if last.isdigit() else None


def _checkpoint(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a torch checkpoint by name."""
    import pickle
    import struct

    import torch

    from emotion.weights.download import only_member

    member = only_member(data, max_bytes=_MAX_CHECKPOINT_BYTES)
    try:
        loaded = torch.load(io.BytesIO(member or data), map_location="cpu", weights_only=True)
    except (
        RuntimeError,
        ValueError,
        EOFError,
        LookupError,
        OSError,
        AttributeError,
        TypeError,
        struct.error,
        pickle.UnpicklingError,
    ) as e:
        raise ValueError("not a torch checkpoint of tensors alone, or cut short") from e
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError("not a torch checkpoint: it holds no tensors by name")
    if not all(isinstance(v, torch.Tensor) and isinstance(k, str) for k, v in loaded.items()):
        raise ValueError("not a torch checkpoint of tensors alone")
    return {key: value.numpy() for key, value in loaded.items()}


_MAX_CHECKPOINT_BYTES: Final = 400 << 20


CONVERTERS: Final[Mapping[str, Callable[[bytes], Tensors]]] = {
    "retinaface-onnx": retinaface_onnx,
    "retinaface-resnet50": retinaface_resnet50,
    "mini-xception-keras": mini_xception_keras,
}
"""The converters that a model's record may name."""
