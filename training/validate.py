"""What a tower says of the validation faces, while it learns: no test picture is ever seen here."""

import numpy as np
import torch
from torch import Tensor, nn

from training import data
from training.net import KEYWORD_ORDER


@torch.no_grad()
def logits(net: nn.Module, images: np.ndarray, *, batch: int = 256) -> tuple[Tensor, Tensor]:
    """Both heads' logits (N, 8), (N, 7), on the CPU, for uint8 (N, 48, 48) faces."""
    where = next(net.parameters()).device
    parts = []
    for start in range(0, len(images), batch):
        x = torch.from_numpy(images[start : start + batch])[:, None].to(where).float() / 255
        parts.append([out.cpu() for out in net(x.contiguous(memory_format=torch.channels_last))])
    return torch.cat([voted for voted, _ in parts]), torch.cat([keyword for _, keyword in parts])


def mean_recall(predicted: np.ndarray, label: np.ndarray) -> float:
    """Recall averaged over the classes that occur; labels below 0 are left out."""
    return float(np.mean([(predicted[label == k] == k).mean() for k in set(label[label >= 0])]))


def validate(net: nn.Module, pictures: data.Pictures) -> dict[str, float]:
    """Each head against its own labelling; no test picture is ever seen here."""
    voted, keyword = logits(net, pictures.images)
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
