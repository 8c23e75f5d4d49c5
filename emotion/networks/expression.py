"""The network `showmood-expression-2`: a small residual tower over 48 by 48 gray faces.

Residual blocks as in He et al. 2016 (arXiv:1512.03385), average-pooled shortcuts as in He et al.
2019 (arXiv:1812.01187, ResNet-D), channel attention as in Hu et al. 2018 (arXiv:1709.01507).

Input: float32 (N, 1, 48, 48), gray, 0 to 1. Output: probabilities (N, 8), ordered as `EMOTIONS`.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE_PX: Final = 48
N_VOTED: Final = 8
"""Classes of the head trained on FER+'s votes, ordered as `EMOTIONS`."""
N_KEYWORD: Final = 7
"""Classes of the head trained on FER2013's own labels: `EMOTIONS` without contempt, the last."""

WIDTHS: Final = (48, 96, 192)
DEPTHS: Final = (1, 2, 2)
STEM: Final = 32


class Block(nn.Module):
    """Two 3 by 3 convolutions beside a shortcut; `stride` 2 halves the map."""

    def __init__(
        self, n_in: int, n_out: int, *, stride: int, attention: bool, folded: bool
    ) -> None:
        """Build the block with random weights."""
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=folded)
        self.norm1 = nn.Identity() if folded else nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=folded)
        self.norm2 = nn.Identity() if folded else nn.BatchNorm2d(n_out)
        self.squeeze = nn.Conv2d(n_out, n_out // 8, 1) if attention else None
        self.excite = nn.Conv2d(n_out // 8, n_out, 1) if attention else None
        self.pool = nn.AvgPool2d(2) if stride == 2 else nn.Identity()
        self.shortcut = nn.Conv2d(n_in, n_out, 1, bias=False) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, n_in, H, W) -> (N, n_out, H / stride, W / stride)."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.squeeze is not None and self.excite is not None:
            gate = self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
            y = y * torch.sigmoid(gate)
        return F.relu(y + self.shortcut(self.pool(x)))


class Tower(nn.Module):
    """Maps gray faces to two sets of logits: the votes of annotators, and FER2013's label.

    widths, depths: channels and blocks of each stage; every stage halves the map.
    folded: batch norms are folded into the convolutions, as shipped.
    """

    def __init__(
        self,
        *,
        widths: tuple[int, ...] = WIDTHS,
        depths: tuple[int, ...] = DEPTHS,
        stem: int = STEM,
        dropout: float = 0.3,
        folded: bool = False,
    ) -> None:
        """Build the tower with random weights."""
        super().__init__()
        self.stem = nn.Conv2d(1, stem, 3, 1, 1, bias=folded)
        self.stem_norm = nn.Identity() if folded else nn.BatchNorm2d(stem)
        blocks: list[Block] = []
        n_in = stem
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for i in range(depth):
                stride = 1 if i else 2
                blocks.append(Block(n_in, width, stride=stride, attention=stage > 0, folded=folded))
                n_in = width
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.voted = nn.Linear(n_in, N_VOTED)
        self.keyword = nn.Linear(n_in, N_KEYWORD)

    def forward(self, gray: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, 48, 48) in 0 to 1 -> logits (N, 8) and (N, 7).

        Each face is first normalised to mean 0 and deviation 1, against differences of brightness
        and contrast.
        """
        deviation, mean = torch.std_mean(gray, (1, 2, 3), correction=0, keepdim=True)
        x = (gray - mean) / (deviation + 1e-2)
        x = F.relu(self.stem_norm(self.stem(x)))  # (N, 32, 48, 48)
        x = self.blocks(x)  # (N, 192, 6, 6)
        x = self.dropout(x.mean((2, 3)))  # (N, 192)
        return self.voted(x), self.keyword(x)


class ExpressionNet(nn.Module):
    """The shipped network: a folded tower on each face and its mirror image, calibrated.

    The output is the weighted mean of the two heads' probabilities,
    each with its own prior (in the bias); `power` changes the confidence, not the ranking.
    """

    share: Tensor  # (1,): weight of the votes' head
    power: Tensor  # (1,)
    voted_bias: Tensor  # (8,)
    keyword_bias: Tensor  # (7,)

    def __init__(
        self,
        *,
        widths: tuple[int, ...] = WIDTHS,
        depths: tuple[int, ...] = DEPTHS,
        stem: int = STEM,
    ) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.tower = Tower(widths=widths, depths=depths, stem=stem, dropout=0.0, folded=True)
        self.register_buffer("share", torch.full((1,), 0.5))
        self.register_buffer("power", torch.ones(1))
        self.register_buffer("voted_bias", torch.zeros(N_VOTED))
        self.register_buffer("keyword_bias", torch.zeros(N_KEYWORD))

    def logits(self, gray: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, 48, 48) -> mean logits (N, 8) and (N, 7) of both views, before calibration."""
        voted, keyword = self.tower(torch.cat((gray, gray.flip(3))))
        return voted.view(2, -1, N_VOTED).mean(0), keyword.view(2, -1, N_KEYWORD).mean(0)

    def forward(self, gray: Tensor) -> Tensor:
        """(N, 1, 48, 48) in 0 to 1 -> probabilities (N, 8)."""
        voted, keyword = self.logits(gray)
        by_votes = torch.softmax(voted + self.voted_bias, 1)
        by_keyword = torch.softmax(keyword + self.keyword_bias, 1)
        by_keyword = F.pad(by_keyword, (0, N_VOTED - N_KEYWORD))
        mixed = self.share * by_votes + (1 - self.share) * by_keyword
        return mixed**self.power / (mixed**self.power).sum(1, keepdim=True)
