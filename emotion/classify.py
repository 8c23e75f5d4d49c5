"""Faces to probabilities of emotions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from emotion import alike
from emotion.align import crops, thumbnails
from emotion.device import Batches, bring, choose_device, half_type, place
from emotion.errors import OutputsError
from emotion.networks.expression import ExpressionNet
from emotion.networks.mini_xception import MiniXception
from emotion.networks.onnx_network import OnnxNetwork
from emotion.types import EMOTIONS, Faces, Float32, Frames, Int64, K
from emotion.weights import store as stored
from emotion.weights.records import AFFECT, EmotionModel

MODULES: Final[Mapping[str, Callable[[EmotionModel], nn.Module]]] = {
    "showmood-expression": lambda model: ExpressionNet(),
    "mini-xception": lambda model: MiniXception(len(model.classes)),
}
"""Constructors by `module` of a record; the networks map (M, C, S, S) to (M, outputs)."""

_BATCH: Final = 64  # faces


class Classifier:
    """One emotion network, with the input and output format of its record."""

    def __init__(
        self,
        model: EmotionModel,
        weights: Mapping[str, Tensor] | bytes,
        *,
        device: str | torch.device = "auto",
    ) -> None:
        """Load the network.

        weights: tensors by name, as from `weights.load`, or an ONNX file's bytes. Raises
        DeviceError for an unavailable device, WrongNetwork for weights of another network.
        """
        self.model = model
        self.device = choose_device(device) if isinstance(device, str) else device
        self._network: Callable[[Tensor], Tensor]
        self._half: torch.dtype | None = None
        if isinstance(weights, bytes):
            self._network = OnnxNetwork(model, weights, self.device)
        else:
            module = MODULES[model.module](model)
            self._network = place(module, weights, self.device, name=model.name)
            # Measured only for our own network: no probability changes by more than 0.01.
            if model.module == "showmood-expression":
                self._half = half_type(self.device)
            if self._half is not None:  # once, not each time it is asked
                for layer in module.modules():
                    if isinstance(layer, nn.Conv2d | nn.Linear):
                        layer.to(self._half)
        self._batches = Batches("faces")
        self._mean = torch.tensor(model.mean, device=self.device).view(1, -1, 1, 1)
        self._std = torch.tensor(model.std, device=self.device).view(1, -1, 1, 1)
        self._kept = [i for i, name in enumerate(model.classes) if name in EMOTIONS]
        self._columns = [EMOTIONS.index(name) for name in model.classes if name in EMOTIONS]
        self._affect = [
            model.classes.index(name) if name in model.classes else None for name in AFFECT
        ]

    @classmethod
    def of(
        cls, model: EmotionModel, *, cache_dir: Path | None = None, device: str | torch.device
    ) -> "Classifier":
        """Return the classifier of this record, from installed weights.

        Raises WeightsError, and the errors of the constructor.
        """
        if model.module == "onnx":
            return cls(model, stored.read(model, cache_dir), device=device)
        return cls(model, stored.load(model, cache_dir), device=device)

    @property
    def gives_affect(self) -> bool:
        """Return whether the network outputs valence or arousal."""
        return any(output is not None for output in self._affect)

    def classify(self, frames: Frames, faces: Faces) -> Float32:
        """Return float32 (M, 8), columns as EMOTIONS, rows summing to 1.

        NaN where the network lacks a class. No faces give shape (0, 8). Raises
        OutputsError if the network returns NaN or infinity, DeviceError if the
        device has not enough memory for one face.
        """
        return self.answer(frames, faces)[0]

    @torch.inference_mode()
    def answer(
        self,
        frames: Frames,
        faces: Faces,
        pictures: Sequence[Tensor] | None = None,
        person: Int64 | None = None,
    ) -> tuple[Float32, Float32 | None]:
        """Return the result of `classify`, and float32 (M, 2) valence and arousal, -1 to 1.

        NaN where the network lacks one of the two, None if it lacks both. pictures: as in
        `align.crops`. person: (M,), from `alike.face_ids`, contiguous per face, to interpolate the
        outputs of unchanged faces; None to classify all.
        """
        if pictures is None:
            pictures = bring(frames.images, self.device).unbind()
        probs = np.full((len(faces), K), np.nan, dtype=np.float32)
        affect = np.full((len(faces), len(AFFECT)), np.nan, dtype=np.float32)

        def classify(part: Faces) -> Tensor:
            seen = crops(
                frames,
                part,
                self.model.crop,
                size_px=self.model.input_px,
                gray=self.model.colour == "gray",
                device=self.device,
                pictures=pictures,
            )
            return self._all(seen.flip(1) if self.model.colour == "bgr" else seen)

        def run(rows: slice) -> None:
            part = faces.rows(rows)
            n_probs = len(self._columns)
            if person is None:
                outputs = classify(part)
            else:
                small = thumbnails(frames, part, self.model.crop, pictures)
                outputs = alike.interpolated_outputs(
                    small, person[rows], lambda chosen: classify(part.rows(chosen)), n_probs=n_probs
                )
            found, values = outputs[:, :n_probs], outputs[:, n_probs:]
            probs[rows, self._columns] = found.cpu().numpy()
            for column, output in enumerate(self._affect):
                if output is not None:
                    affect[rows, column] = values[:, output].clamp(-1, 1).cpu().numpy()

        self._batches.over(len(faces), _BATCH, run)
        given = [column for column, output in enumerate(self._affect) if output is not None]
        if not (np.isfinite(probs[:, self._columns]).all() and np.isfinite(affect[:, given]).all()):
            raise OutputsError(f"{self.model.name} returned NaN or infinity")
        return probs, affect if self.gives_affect else None

    @torch.inference_mode()
    def probabilities(self, pictures: Tensor) -> Tensor:
        """Return (M, C) of crops (M, channels, S, S), 0 to 255.

        Channels and the C columns, the emotions among the record's classes, are in the record's
        order.
        """
        return self._all(pictures)[:, : len(self._columns)]

    def _all(self, pictures: Tensor) -> Tensor:
        """Return the probabilities of crops, followed by all raw outputs."""
        x = (pictures.to(self.device).float() / 255 - self._mean) / self._std
        probs, outputs = self._run(x)
        if self.model.flip:
            mirrored, others = self._run(x.flip(3))
            probs, outputs = (probs + mirrored) / 2, (outputs + others) / 2
        return torch.cat((probs, outputs), dim=1)

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self._half, enabled=self._half is not None):
            outputs = self._network(x).float()
        kept = outputs[:, self._kept]
        if self.model.outputs == "logits":
            return torch.softmax(kept, dim=1), outputs
        return kept / kept.sum(dim=1, keepdim=True), outputs
