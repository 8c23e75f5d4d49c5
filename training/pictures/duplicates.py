"""Near-duplicates in FER2013, which was collected by web search."""

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SIMILAR: Final = 0.94
"""Minimum correlation of two pictures, at 24 by 24 px, to count as duplicates."""


def signatures(images: NDArray[np.uint8]) -> Tensor:
    """(N, 48, 48) -> float32 (N, 576), unit vectors whose product is the correlation."""
    small = F.avg_pool2d(torch.from_numpy(images)[:, None].float(), 2).flatten(1)
    return F.normalize(small - small.mean(1, keepdim=True), dim=1)


def nearest(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N,) correlation with the most similar of the others, including mirrored ones."""
    ours, theirs = signatures(images), signatures(others)
    mirrored = signatures(np.ascontiguousarray(images[:, :, ::-1]))
    best = [
        torch.maximum(ours[i : i + 256] @ theirs.T, mirrored[i : i + 256] @ theirs.T).amax(1)
        for i in range(0, len(ours), 256)
    ]
    found: NDArray[np.float32] = torch.cat(best).numpy()
    return found


def seen_before(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(N,) whether a picture has a near-duplicate among the others."""
    return nearest(images, others) >= SIMILAR
