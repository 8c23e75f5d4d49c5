"""The face detector's network, fused for fewer passes over memory; same outputs.

Convolutions of the same input are merged, and on the CPU oneDNN applies the activation while a
convolution's result is still in the cache: like `torch.compile`, but without
a compiler on the user's machine.
"""

from collections.abc import Iterable, Sequence
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from emotion.networks.retinaface import SSH, RetinaFace

N_VALUES: Final = 4 + 2 + 10
"""Values per anchor: box offsets, class logits (background, face), landmark offsets."""


class FusedRetinaFace(nn.Module):
    """RetinaFace with one output (N, A, N_VALUES), from the weights of another instance."""

    def __init__(self, network: RetinaFace) -> None:
        """Fuse a network that is already on its device; do not use it afterwards."""
        super().__init__()
        heads = (network.bbox_head, network.class_head, network.landmark_head)
        levels = zip(*(cast("Iterable[nn.Conv2d]", head) for head in heads), strict=True)
        self.heads = nn.ModuleList(nn.Sequential(_joined_heads(level)) for level in levels)
        self.contexts = nn.ModuleList(
            _Context(ssh) for ssh in (network.ssh1, network.ssh2, network.ssh3)
        )
        self.body, self.fpn = network.body, network.fpn
        like = next(self.parameters())
        if like.device.type == "cpu" and _onednn_works(like.dtype):
            _fuse(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, A, N_VALUES) of (N, 3, H, W), anchors in the order of `boxes.anchors`."""
        return self._rows(self.fpn(*self.body(x)))

    def coarse(self, x: Tensor) -> Tensor:
        """Return the same without the anchors of the finest level, at three fifths of the cost."""
        return self._rows(self.fpn.coarse(*self.body(x)[1:]))

    def _rows(self, levels: Sequence[Tensor]) -> Tensor:
        n_left_out = len(self.heads) - len(levels)
        parts = zip(levels, self.contexts[n_left_out:], self.heads[n_left_out:], strict=True)
        rows = [
            head(context(level)).permute(0, 2, 3, 1).reshape(len(level), -1, N_VALUES)
            for level, context, head in parts
        ]
        return torch.cat(rows, dim=1)


class _Context(nn.Module):
    """SSH with its first two convolutions merged."""

    def __init__(self, ssh: SSH) -> None:
        super().__init__()
        plain = cast(nn.Conv2d, ssh.conv3X3.get_submodule("0"))
        first = cast(nn.Conv2d, ssh.conv5X5_1.get_submodule("0"))
        # The activation can be applied to both: the plain half has a ReLU at the end,
        # and relu(leaky_relu(x)) is relu(x).
        self.first = nn.Sequential(_joined([plain, first]), ssh.conv5X5_1.get_submodule("1"))
        self.n_plain = plain.out_channels
        self.second, self.third, self.fourth = ssh.conv5X5_2, ssh.conv7X7_2, ssh.conv7x7_3

    def forward(self, x: Tensor) -> Tensor:
        both = self.first(x)
        shared = both[:, self.n_plain :].contiguous(memory_format=torch.channels_last)
        wide = self.fourth(self.third(shared))
        return functional.relu_(
            torch.cat((both[:, : self.n_plain], self.second(shared), wide), dim=1)
        )


def _joined(convolutions: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """Return one convolution whose output is the concatenation of theirs."""
    like = convolutions[0]
    assert like.bias is not None
    joined = nn.Conv2d(
        like.in_channels,
        sum(c.out_channels for c in convolutions),
        like.kernel_size,  # type: ignore[arg-type]
        padding=like.padding,  # type: ignore[arg-type]
        device=like.weight.device,
        dtype=like.weight.dtype,
    )
    weight = torch.cat([c.weight.detach() for c in convolutions])
    joined.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
    joined.bias = nn.Parameter(
        torch.cat([c.bias.detach() for c in convolutions if c.bias is not None])
    )
    return joined


def _joined_heads(heads: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """Return one head whose output has all values of an anchor, then of the cell's next anchor."""
    joined = _joined(heads)
    assert joined.bias is not None
    n_anchors = joined.out_channels // N_VALUES
    first = 0
    order: list[list[int]] = [[] for _ in range(n_anchors)]
    for head in heads:
        n_values = head.out_channels // n_anchors
        for anchor in range(n_anchors):
            start = first + anchor * n_values
            order[anchor] += range(start, start + n_values)
        first += head.out_channels
    rows = torch.tensor([row for rows in order for row in rows], device=joined.weight.device)
    joined.weight = nn.Parameter(joined.weight.detach()[rows])
    joined.bias = nn.Parameter(joined.bias.detach()[rows])
    return joined


class _FusedConv(nn.Module):
    """A convolution and a leaky ReLU (or nothing) in one pass."""

    def __init__(self, convolution: nn.Conv2d, slope: float | None) -> None:
        super().__init__()
        self.stride = list(convolution.stride)
        self.padding = list(convolution.padding)
        self.dilation = list(convolution.dilation)
        self.groups = convolution.groups
        self.attribute = "none" if slope is None else "leaky_relu"
        self.scalars = [] if slope is None else [slope]
        assert convolution.bias is not None
        self.bias = convolution.bias.detach()
        self.plain = convolution.weight.detach()
        # Converted once to oneDNN's layout for one large picture. For many small ones it uses
        # another, and conversion from this one takes a third of their time.
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            self.plain, self.padding, self.stride, self.dilation, self.groups
        )

    def forward(self, x: Tensor) -> Tensor:
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x,
            self.weight if len(x) == 1 else self.plain,
            self.bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            self.attribute,
            self.scalars,
            "",
        )
        return fused


def _fuse(module: nn.Module) -> None:
    """Replace, in place, each Sequential of a convolution and perhaps a leaky ReLU."""
    for name, child in module.named_children():
        layers = list(child) if isinstance(child, nn.Sequential) else []
        plain = len(layers) == 1 and isinstance(layers[0], nn.Conv2d)
        leaky = len(layers) == 2 and isinstance(layers[1], nn.LeakyReLU)
        if plain or leaky:
            slope = float(layers[1].negative_slope) if leaky else None  # type: ignore[arg-type]
            setattr(module, name, _FusedConv(layers[0], slope))  # type: ignore[arg-type]
        else:
            _fuse(child)


def _onednn_works(dtype: torch.dtype = torch.float32) -> bool:
    """Return whether this torch has oneDNN, and it computes the same as torch."""
    convolution = nn.Conv2d(16, 16, 3, padding=1).to(dtype)
    x = torch.randn(1, 16, 8, 8).to(dtype).contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            fused = _FusedConv(convolution, 0.1)(x)
            plain = functional.leaky_relu(convolution(x), 0.1)
            return torch.allclose(plain, fused, atol=1e-4 if dtype == torch.float32 else 0.05)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
