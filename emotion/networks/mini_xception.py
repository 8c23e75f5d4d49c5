"""The network mini-XCEPTION.

Arriaga, Valdenegro-Toro, Plöger, "Real-time Convolutional Neural Networks for Emotion and Gender
Classification", arXiv:1710.07557; layers as in oarriaga/face_classification (`src/models/cnn.py`).

Input: float32 (M, 1, 64, 64), gray, -1 to 1. Output: logits (M, n_classes).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

_EPSILON = 1e-3  # Keras's default for BatchNormalization


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


def _pool_same(x: Tensor) -> Tensor:
    """Max-pool 3x3, stride 2, with Keras's "same" padding: even sides are padded at the end."""
    top, left = x.shape[2] % 2, x.shape[3] % 2
    padded = functional.pad(x, (left, 1, top, 1), value=-torch.inf)
    return functional.max_pool2d(padded, 3, 2)


class _Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, bias=False)
        self.norm1 = _norm(8)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.norm2 = _norm(8)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(x)))


class _Separable(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=False)
        self.pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class _Block(nn.Module):
    """Two separable convolutions, pooled, beside a strided 1x1 shortcut."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(c_in, c_out, 1, 2, bias=False)
        self.shortcut_norm = _norm(c_out)
        self.separable1 = _Separable(c_in, c_out)
        self.norm1 = _norm(c_out)
        self.separable2 = _Separable(c_out, c_out)
        self.norm2 = _norm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        deep = functional.relu(self.norm1(self.separable1(x)))
        deep = _pool_same(self.norm2(self.separable2(deep)))
        short: Tensor = self.shortcut_norm(self.shortcut(x))
        return deep + short


class MiniXception(nn.Module):
    """Fully convolutional: 58,423 parameters with 7 classes."""

    def __init__(self, n_classes: int = 7) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.stem = _Stem()
        widths = (8, 16, 32, 64, 128)
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in pairwise(widths)))
        self.head = nn.Conv2d(widths[-1], n_classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (M, n_classes) of pictures (M, 1, 64, 64)."""
        x = self.stem(x)  # (M, 8, 60, 60)
        x = self.blocks(x)  # (M, 128, 4, 4)
        logits: Tensor = self.head(x).mean(dim=(2, 3))  # (M, n_classes)
        return logits
