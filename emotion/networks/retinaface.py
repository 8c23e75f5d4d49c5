"""The network RetinaFace with the MobileNet 0.25 or the ResNet50 backbone.

Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild", CVPR 2020. Layout and
names as in the PyTorch implementations biubug6/Pytorch_Retinaface, yakhyo/retinaface-pytorch
(`models/retinaface.py`) and ternaus/retinaface (`retinaface/network.py`), whose batch norms are
folded into the convolutions here.

Input: float32 (N, 3, H, W), in the format of the weights' record; any height and width.
Output, A = 2 * sum over the strides 8, 16, 32 of ceil(H / stride) * ceil(W / stride) anchors, in
the order of `boxes.anchors`: offsets (N, A, 4), class logits (N, A, 2) with the face second,
landmark offsets (N, A, 10).
"""

from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Backbone = Literal["mobilenet0.25", "resnet50"]

FIRST: Final = {"mobilenet0.25": "body.stage1.0.0.weight", "resnet50": "body.conv1.weight"}
"""The first convolution, (C, 3, k, k)."""

_SLOPE: Final = 0.1
_ANCHORS_A_CELL: Final = 2
_NARROW: Final = 64  # networks up to this width have leaky ReLU (`_SLOPE`), wider ones ReLU


def _conv(
    c_in: int,
    c_out: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    slope: float = _SLOPE,
) -> nn.Module:
    convolution = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups)
    rectified = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
    return nn.Sequential(convolution, rectified)


def _slope(width: int) -> float:
    return _SLOPE if width <= _NARROW else 0.0


def _linear_conv(c_in: int, c_out: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1))


def _separable(c_in: int, c_out: int, stride: int = 1) -> nn.Module:
    depthwise = _conv(c_in, c_in, stride=stride, groups=c_in)
    return nn.Sequential(depthwise, _conv(c_in, c_out, kernel=1))


class MobileNet025(nn.Module):
    """MobileNet v1 with a quarter of its width; features at strides 8, 16 and 32."""

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


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut (He et al. 2016, arXiv:1512.03385).

    The stride is that of the 3x3 convolution, as in torchvision's `models/resnet.py` ("v1.5").
    """

    def __init__(self, c_in: int, width: int, *, stride: int) -> None:
        """Build the block: `c_in` to `4 * width` channels."""
        super().__init__()
        c_out = 4 * width
        self.conv1 = nn.Conv2d(c_in, width, 1)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1)
        self.conv3 = nn.Conv2d(width, c_out, 1)
        self.downsample = (
            nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride))
            if stride > 1 or c_in != c_out
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, c_in, H, W) -> (N, 4 * width, H / stride, W / stride)."""
        y = functional.relu(self.conv1(x))
        y = functional.relu(self.conv2(y))
        return functional.relu(self.conv3(y) + self.downsample(x))


class ResNet50(nn.Module):
    """ResNet50 without its head; features at strides 8, 16 and 32."""

    channels: Final = (512, 1024, 2048)

    def __init__(self) -> None:
        """Build the stem and the four stages."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.layer1 = self._stage(64, 64, 3, stride=1)
        self.layer2 = self._stage(256, 128, 4, stride=2)
        self.layer3 = self._stage(512, 256, 6, stride=2)
        self.layer4 = self._stage(1024, 512, 3, stride=2)

    @staticmethod
    def _stage(c_in: int, width: int, depth: int, *, stride: int) -> nn.Sequential:
        more = (Bottleneck(4 * width, width, stride=1) for _ in range(depth - 1))
        return nn.Sequential(Bottleneck(c_in, width, stride=stride), *more)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features of the last three stages."""
        x = functional.relu(self.conv1(x))  # (N, 64, H/2, W/2)
        x = self.layer1(functional.max_pool2d(x, 3, 2, 1))  # (N, 256, H/4, W/4)
        c3 = self.layer2(x)  # (N, 512, H/8, W/8)
        c4 = self.layer3(c3)  # (N, 1024, H/16, W/16)
        c5 = self.layer4(c4)  # (N, 2048, H/32, W/32)
        return c3, c4, c5


class FPN(nn.Module):
    """Feature pyramid: laterals, and the coarser level added to the finer one."""

    def __init__(self, channels: tuple[int, int, int], width: int) -> None:
        """Build laterals to `width` channels."""
        super().__init__()
        slope = _slope(width)
        self.output1 = _conv(channels[0], width, kernel=1, slope=slope)
        self.output2 = _conv(channels[1], width, kernel=1, slope=slope)
        self.output3 = _conv(channels[2], width, kernel=1, slope=slope)
        self.merge1 = _conv(width, width, slope=slope)
        self.merge2 = _conv(width, width, slope=slope)

    def forward(self, c3: Tensor, c4: Tensor, c5: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three levels, all of the same width."""
        p3 = self.output1(c3)
        p4, p5 = self.coarse(c4, c5)
        p3 = self.merge1(p3 + functional.interpolate(p4, size=p3.shape[2:], mode="nearest"))
        return p3, p4, p5

    def coarse(self, c4: Tensor, c5: Tensor) -> tuple[Tensor, Tensor]:
        """Return only the two coarser levels."""
        p4, p5 = self.output2(c4), self.output3(c5)
        p4 = self.merge2(p4 + functional.interpolate(p5, size=p4.shape[2:], mode="nearest"))
        return p4, p5


class SSH(nn.Module):
    """Context module: receptive fields of 3, 5 and 7 side by side (Najibi et al., ICCV 2017)."""

    def __init__(self, width: int) -> None:
        """Split `width` channels: half to 3x3, a quarter each to 5x5 and 7x7."""
        super().__init__()
        half, quarter, slope = width // 2, width // 4, _slope(width)
        self.conv3X3 = _linear_conv(width, half)
        self.conv5X5_1 = _conv(width, quarter, slope=slope)
        self.conv5X5_2 = _linear_conv(quarter, quarter)
        self.conv7X7_2 = _conv(quarter, quarter, slope=slope)
        self.conv7x7_3 = _linear_conv(quarter, quarter)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        shared = self.conv5X5_1(x)
        wide = self.conv7x7_3(self.conv7X7_2(shared))
        return functional.relu(torch.cat((self.conv3X3(x), self.conv5X5_2(shared), wide), dim=1))


class RetinaFace(nn.Module):
    """Faces at three scales: backbone, pyramid, context modules, heads."""

    def __init__(self, backbone: Backbone = "mobilenet0.25") -> None:
        """Build the network with random weights."""
        super().__init__()
        self.body = MobileNet025() if backbone == "mobilenet0.25" else ResNet50()
        width = 64 if backbone == "mobilenet0.25" else 256
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
            """Concatenate the anchors of all levels, cell by cell."""
            maps = (head(level) for head, level in zip(heads, levels, strict=True))
            parts = [m.permute(0, 2, 3, 1).reshape(len(m), -1, n_values) for m in maps]
            return torch.cat(parts, dim=1)

        return rows(self.bbox_head, 4), rows(self.class_head, 2), rows(self.landmark_head, 10)
