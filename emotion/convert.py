"""Original weight files to tensors by name, once; the parsers are imported only here and then.

Nothing is unpickled and no downloaded code is run: a bytes constant is read with
`ast.literal_eval`, ONNX with `onnx` (data only), Keras HDF5 with `h5py`.
"""

import ast
import io
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.float32]]


def bytes_constant(source: bytes, name: str) -> bytes:
    """Return the bytes literal that Python source assigns to `name`, without running it.

    Raises ValueError where there is no such literal.
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


CONVERTERS: Final[Mapping[str, Callable[[bytes], Tensors]]] = {
    "retinaface-onnx": retinaface_onnx,
    "mini-xception-keras": mini_xception_keras,
}
"""What a model's record may name as its converter."""
