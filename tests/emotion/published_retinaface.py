"""Runs retinaface-pytorch's own modules in a separate process: see test_parity.py.

Argument: a folder with `published/` (unpacked files of the wheels of
retinaface-pytorch and torchvision) and `picture.npy` (uint8 (H, W, 3), RGB). Writes
`checkpoint.pth`, a state dict of random weights, and `answers.npz`, the package's outputs for the
picture with these weights.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Replaces torchvision's compiled operator: greedy suppression, best first."""
    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        x0, y0, x1, y1 = boxes[i].tolist()
        for j in kept:
            a0, b0, a1, b1 = boxes[j].tolist()
            shared = max(0.0, min(x1, a1) - max(x0, a0)) * max(0.0, min(y1, b1) - max(y0, b0))
            union = (x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - shared
            if shared / union > iou_threshold:
                break
        else:
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


def stub(name: str, **content: object) -> None:
    module = types.ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


class Longest:
    """albumentations' LongestMaxSize, for a picture that already has its size."""

    def __init__(self, max_size: int, p: float) -> None:
        self.max_size = max_size

    def __call__(self, image: np.ndarray) -> np.ndarray:
        assert max(image.shape[:2]) == self.max_size
        return image


class Normalize:
    """albumentations' Normalize with its defaults."""

    def __init__(self, p: float) -> None:
        self.mean, self.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        scaled = image / np.float32(255) - np.float32(self.mean)
        return (scaled / np.float32(self.std)).astype(np.float32)


class Compose:
    def __init__(self, steps: list) -> None:
        self.steps = steps

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        for step in self.steps:
            image = step(image)
        return {"image": image}


def main(folder: Path) -> None:
    sys.path.insert(0, str(folder / "published"))
    stub("cv2")  # only used for drawing
    stub("albumentations", Compose=Compose, LongestMaxSize=Longest, Normalize=Normalize)
    stub("torchvision.ops", nms=nms)
    stub("torchvision.transforms")
    stub("torchvision.transforms._presets", ImageClassification=object)
    stub("torchvision.utils", _log_api_usage_once=lambda *_: None)
    from retinaface.predict_single import Model

    torch.manual_seed(0)
    picture = np.load(folder / "picture.npy")
    model = Model(max_size=max(picture.shape[:2]))
    network = model.model
    inputs = torch.from_numpy(model.transform(image=picture)["image"]).permute(2, 0, 1)[None]
    with torch.no_grad():
        for name, norm in network.named_modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                low, high = (0.1, 0.3) if name.endswith("bn3") else (0.5, 1.5)
                norm.weight.uniform_(low, high)  # as in a trained network, blocks add little
                norm.bias.normal_(0, 0.1)
                norm.momentum = None  # statistics of the outputs, so that values stay bounded
        network.train()
        network(torch.cat((inputs, inputs.flip(3))))
        network.eval()
        for name, parameter in network.named_parameters():
            if "BboxHead" in name or "LandmarkHead" in name:
                parameter.mul_(0.5)
        offsets, logits, landmarks = network(inputs)
    torch.save(network.state_dict(), folder / "checkpoint.pth")
    faces = model.predict_jsons(picture)
    np.savez(
        folder / "answers.npz",
        inputs=inputs.numpy(),
        offsets=offsets.numpy(),
        logits=logits.numpy(),
        landmarks=landmarks.numpy(),
        boxes=np.array([face["bbox"] for face in faces]),
        scores=np.array([face["score"] for face in faces]),
        points=np.array([face["landmarks"] for face in faces]),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
