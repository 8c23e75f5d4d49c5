"""Evaluation on the validation faces during training; test pictures are not used."""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from training.learning.net import KEYWORD_ORDER
from training.pictures import data

_BATCH: Final = 256


@torch.no_grad()
def logits(
    heads: Callable[[Tensor], tuple[Tensor, Tensor]],
    images: np.ndarray,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Both heads' logits (N, 8), (N, 7), on the CPU, for uint8 (N, 48, 48) faces.

    heads: maps float32 (B, 1, 48, 48), 0 to 1, on the device, to the logits.
    """
    parts = []
    for start in range(0, len(images), _BATCH):
        x = torch.from_numpy(images[start : start + _BATCH])[:, None].to(device).float() / 255
        parts.append([out.cpu() for out in heads(x.contiguous(memory_format=torch.channels_last))])
    return torch.cat([voted for voted, _ in parts]), torch.cat([keyword for _, keyword in parts])


def mean_recall(predicted: np.ndarray, label: np.ndarray) -> float:
    """Recall averaged over the classes that occur; negative labels are ignored."""
    return float(np.mean([(predicted[label == k] == k).mean() for k in set(label[label >= 0])]))


def validate(net: nn.Module, pictures: data.Pictures) -> dict[str, float]:
    """Evaluate each head on its own labels."""
    voted, keyword = logits(net, pictures.images, next(net.parameters()).device)
    by_votes = voted.argmax(1).numpy()
    by_keyword = np.array(KEYWORD_ORDER)[keyword.argmax(1).numpy()]
    has, known = pictures.majority >= 0, pictures.keyword >= 0
    return {
        "votes_accuracy": float((by_votes == pictures.majority)[has].mean()),
        "votes_recall": mean_recall(by_votes, pictures.majority),
        "keyword_accuracy": float((by_keyword == pictures.keyword)[known].mean()),
        "keyword_recall": mean_recall(by_keyword, pictures.keyword),
        "votes_loss": float(
            -(torch.from_numpy(pictures.votes) * torch.log_softmax(voted, 1)).sum(1).mean()
        ),
    }
