"""RetinaFace with the MobileNet 0.25 backbone: the network, nothing else.

Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild", CVPR 2020. Layout and
names as in the PyTorch implementations biubug6/Pytorch_Retinaface and yakhyo/retinaface-pytorch
(`models/retinaface.py`), whose batch norms are folded into the convolutions here.

Input: float32 (N, 3, H, W), BGR minus `MEAN_BGR`, no scaling; any height and width.
Output, A = 2 * sum over the strides 8, 16, 32 of ceil(H / stride) * ceil(W / stride) anchors, in
the order of `boxes.anchors`: offsets (N, A, 4), class logits (N, A, 2) with the face second,
landmark offsets (N, A, 10).
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN_BGR: Final = (104.0, 117.0, 123.0)
"""Mean of each channel, 0 to 255 (biubug6/Pytorch_Retinaface, `detect.py`)."""

_SLOPE: Final = 0.1
_ANCHORS_A_CELL: Final = 2


def _conv(c_in: int, c_out: int, *, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    convolution = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups)
    return nn.Sequential(convolution, nn.LeakyReLU(_SLOPE, inplace=True))


def _linear_conv(c_in: int, c_out: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1))


def _separable(c_in: int, c_out: int, stride: int = 1) -> nn.Module:
    depthwise = _conv(c_in, c_in, stride=stride, groups=c_in)
    return nn.Sequential(depthwise, _conv(c_in, c_out, kernel=1))


class MobileNet025(nn.Module):
    """MobileNet v1 at a quarter of its width; features at strides 8, 16 and 32."""

    channels: Final = (64, 128, 256)

    def __init__(self) -> None:
        """Build the three stages."""
        super().__init__()
        self.stage1 = nn.Sequential(
            _conv(3, 8, stride=2),
            _separable(8, 16),
            _separable(16, 32, 2),
            _separable(32, 32),
            _separable(32, 64, 2),
            _separable(64, 64),
        )
        self.stage2 = nn.Sequential(
            _separable(64, 128, 2), *(_separable(128, 128) for _ in range(5))
        )
        self.stage3 = nn.Sequential(_separable(128, 256, 2), _separable(256, 256))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features of the three stages."""
        c3 = self.stage1(x)  # (N, 64, H/8, W/8)
        c4 = self.stage2(c3)  # (N, 128, H/16, W/16)
        c5 = self.stage3(c4)  # (N, 256, H/32, W/32)
        return c3, c4, c5


class FPN(nn.Module):
    """Feature pyramid: laterals, and the coarser level added to the finer one."""

    def __init__(self, channels: tuple[int, int, int], width: int) -> None:
        """Build laterals to `width` channels."""
        super().__init__()
        self.output1 = _conv(channels[0], width, kernel=1)
        self.output2 = _conv(channels[1], width, kernel=1)
        self.output3 = _conv(channels[2], width, kernel=1)
        self.merge1 = _conv(width, width)
        self.merge2 = _conv(width, width)

    def forward(self, c3: Tensor, c4: Tensor, c5: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three levels, all of the same width."""
        p3, p4, p5 = self.output1(c3), self.output2(c4), self.output3(c5)
        p4 = self.merge2(p4 + functional.interpolate(p5, size=p4.shape[2:], mode="nearest"))
        p3 = self.merge1(p3 + functional.interpolate(p4, size=p3.shape[2:], mode="nearest"))
        return p3, p4, p5


class SSH(nn.Module):
    """Context module: receptive fields of 3, 5 and 7 side by side (Najibi et al., ICCV 2017)."""

    def __init__(self, width: int) -> None:
        """Split `width` channels: half to 3x3, a quarter each to 5x5 and 7x7."""
        super().__init__()
        half, quarter = width // 2, width // 4
        self.conv3X3 = _linear_conv(width, half)
        self.conv5X5_1 = _conv(width, quarter)
        self.conv5X5_2 = _linear_conv(quarter, quarter)
        self.conv7X7_2 = _conv(quarter, quarter)
        self.conv7x7_3 = _linear_conv(quarter, quarter)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        shared = self.conv5X5_1(x)
        wide = self.conv7x7_3(self.conv7X7_2(shared))
        return functional.relu(torch.cat((self.conv3X3(x), self.conv5X5_2(shared), wide), dim=1))


class RetinaFace(nn.Module):
    """Faces at three scales: MobileNet 0.25, pyramid, context modules, heads."""

    def __init__(self) -> None:
        """Build the network with random weights."""
        super().__init__()
        width = 64
        self.body = MobileNet025()
        self.fpn = FPN(self.body.channels, width)
        self.ssh1, self.ssh2, self.ssh3 = SSH(width), SSH(width), SSH(width)
        self.class_head = self._heads(width, 2)
        self.bbox_head = self._heads(width, 4)
        self.landmark_head = self._heads(width, 10)

    @staticmethod
    def _heads(width: int, n_values: int) -> nn.ModuleList:
        return nn.ModuleList(nn.Conv2d(width, _ANCHORS_A_CELL * n_values, 1) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return box offsets (N, A, 4), class logits (N, A, 2), landmark offsets (N, A, 10)."""
        p3, p4, p5 = self.fpn(*self.body(x))
        levels = (self.ssh1(p3), self.ssh2(p4), self.ssh3(p5))

        def rows(heads: nn.ModuleList, n_values: int) -> Tensor:
            """Put the anchors of all levels in one row, cell by cell."""
            maps = (head(level) for head, level in zip(heads, levels, strict=True))
            parts = [m.permute(0, 2, 3, 1).reshape(len(m), -1, n_values) for m in maps]
            return torch.cat(parts, dim=1)

        return rows(self.bbox_head, 4), rows(self.class_head, 2), rows(self.landmark_head, 10)
