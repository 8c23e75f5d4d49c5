"""Faces to probabilities of emotions."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from emotion.align import crops
from emotion.device import choose_device
from emotion.expression import ExpressionNet
from emotion.mini_xception import MiniXception
from emotion.types import EMOTIONS, Faces, Float32, Frames, K
from emotion.weights import EmotionModel

MODULES: Final[Mapping[str, Callable[[EmotionModel], nn.Module]]] = {
    "showmood-expression": lambda model: ExpressionNet(),
    "mini-xception": lambda model: MiniXception(len(model.classes)),
}
"""How to build the network that a record names; it maps (M, C, S, S) to (M, outputs)."""

_BATCH: Final = 64  # faces at once


class Classifier:
    """One emotion network, with all that its record says about its input and output."""

    def __init__(
        self,
        model: EmotionModel,
        weights: Mapping[str, Tensor],
        *,
        device: str | torch.device = "auto",
    ) -> None:
        """Load the network.

        weights: tensors by name, as `weights.load` gives them. Raises DeviceError for a device
        that is not there.
        """
        self.model = model
        self.device = choose_device(device) if isinstance(device, str) else device
        network = MODULES[model.module](model)
        network.load_state_dict(weights)
        network.eval().to(self.device)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(model.mean, device=self.device).view(1, -1, 1, 1)
        self._std = torch.tensor(model.std, device=self.device).view(1, -1, 1, 1)
        self._kept = [i for i, name in enumerate(model.classes) if name is not None]
        self._columns = [EMOTIONS.index(name) for name in model.classes if name is not None]

    @torch.inference_mode()
    def classify(self, frames: Frames, faces: Faces) -> Float32:
        """Return float32 (M, 8), columns as EMOTIONS, rows summing to 1.

        NaN stands where the network lacks a class. No faces give shape (0, 8).
        """
        probs = np.full((len(faces), K), np.nan, dtype=np.float32)
        for start in range(0, len(faces), _BATCH):
            rows = slice(start, start + _BATCH)
            part = Faces(
                frame=faces.frame[rows],
                boxes=faces.boxes[rows],
                scores=faces.scores[rows],
                landmarks=faces.landmarks[rows],
            )
            pictures = crops(
                frames,
                part,
                self.model.crop,
                size_px=self.model.input_px,
                gray=self.model.colour == "gray",
                device=self.device,
            )
            probs[rows, self._columns] = self.probabilities(pictures).cpu().numpy()
        return probs

    @torch.inference_mode()
    def probabilities(self, pictures: Tensor) -> Tensor:
        """Return (M, C) of crops (M, channels, S, S), 0 to 255.

        The C columns are the record's classes without those it leaves out.
        """
        x = (pictures.to(self.device).float() / 255 - self._mean) / self._std
        probs = self._run(x)
        if self.model.flip:
            probs = (probs + self._run(x.flip(3))) / 2
        return probs

    def _run(self, x: Tensor) -> Tensor:
        outputs = self._network(x.contiguous(memory_format=torch.channels_last))[:, self._kept]
        if self.model.outputs == "logits":
            return torch.softmax(outputs, dim=1)
        total: Tensor = outputs.sum(dim=1, keepdim=True)
        probs: Tensor = outputs / total
        return probs
