"""Loss over both sets of labels, mix-up, and averaging of weights."""

import copy
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from emotion.networks.expression import N_KEYWORD, N_VOTED
from training.pictures.data import KEYWORD_TO_EMOTION, Pictures

KEYWORD_WEIGHT: Final = 0.6
"""Weight of the loss of the FER2013 head, relative to that of the votes."""

KEYWORD_SMOOTHING: Final = 0.1
"""Label smoothing of FER2013's labels, which are weaker evidence than ten annotators."""

KEYWORD_ORDER: Final = tuple(sorted(KEYWORD_TO_EMOTION))
"""Emotions of the FER2013 head's columns: all but contempt, in the order of `EMOTIONS`."""


def targets(pictures: Pictures) -> tuple[Tensor, Tensor]:
    """(N, 8) shares of the votes and (N, 7) smoothed FER2013 label; rows of zeros: unlabelled.

    The loss weights a row by its sum, so unlabelled faces are ignored.
    """
    known = torch.from_numpy(pictures.keyword >= 0)
    one_hot = F.one_hot(torch.from_numpy(np.maximum(pictures.keyword, 0)), N_VOTED)
    keyword = one_hot[:, list(KEYWORD_ORDER)].float()
    keyword = keyword * (1 - KEYWORD_SMOOTHING) + KEYWORD_SMOOTHING / N_KEYWORD
    return torch.from_numpy(pictures.votes), keyword * known[:, None]


def loss(outputs: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy with the votes' distribution, plus the weighted one with FER2013's label."""
    voted, keyword = (
        -(want * F.log_softmax(out.float(), 1)).sum(1).mean()
        for out, want in zip(outputs, wanted, strict=True)
    )
    return voted + KEYWORD_WEIGHT * keyword


def mix_up(x: Tensor, wanted: tuple[Tensor, Tensor], rng: Generator) -> tuple[Tensor, ...]:
    """Blend each face and its targets with another one (arXiv:1710.09412).

    The weight of the other face is uniform in 0 to 0.3, so the first face dominates.
    """
    share = float(torch.rand((), generator=rng)) * 0.3
    other = torch.randperm(len(x), generator=rng)
    return tuple(torch.lerp(part, part[other], share) for part in (x, *wanted))


class WeightAverage:
    """Exponential moving average of parameters and batch-norm statistics; this is shipped."""

    def __init__(self, net: nn.Module, *, decay: float = 0.9995) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Update the average; faster in the first steps."""
        self.updates += 1
        rate = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        averaged, present = self.net.state_dict(), net.state_dict()
        names = [name for name, value in present.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [averaged[name] for name in names], [present[name] for name in names], rate
        )
