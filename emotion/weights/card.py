"""A user's own emotion network: an ONNX file with a card beside it, `NAME.toml`.

    classes = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    input_px = 224
    colour = "rgb"                  # or "bgr", "gray"
    mean = [0.485, 0.456, 0.406]    # of values from 0 to 1
    std = [0.229, 0.224, 0.225]
    outputs = "logits"              # or "probabilities"
    licence = "MIT"
    # optional: source, crop = "box", margin = 0.1, derotate_above_deg = 15,
    # flip = true, sha256 = "..."

The network has one input (N, C, input_px, input_px) and one output (N, classes), both float32. A
class may also be "valence", "arousal", or "-" for an output to ignore. `derotate_above_deg`
of 0 means never.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from emotion.errors import CardError, WeightsMissing
from emotion.types import EMOTIONS
from emotion.weights.records import AFFECT, CropRule, EmotionModel, UserFile

SYNONYMS: Final[Mapping[str, str]] = {
    "neutral": "neutral",
    "happy": "happiness",
    "joy": "happiness",
    "surprised": "surprise",
    "sad": "sadness",
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "contemptuous": "contempt",
    **{name: name for name in (*EMOTIONS, *AFFECT)},
}
"""Other names of the emotions, in lower case."""

LEFT_OUT: Final = "-"

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "classes": (list,),
    "input_px": (int,),
    "colour": (str,),
    "mean": (list,),
    "std": (list,),
    "outputs": (str,),
    "licence": (str,),
    "source": (str,),
    "crop": (str,),
    "margin": (int, float),
    "derotate_above_deg": (int, float),
    "flip": (bool,),
    "sha256": (str,),
}
_NEEDED: Final = ("classes", "input_px", "colour", "mean", "std", "outputs", "licence")
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "colour": ("rgb", "bgr", "gray"),
    "outputs": ("logits", "probabilities"),
    "crop": ("square", "box"),
}
_MAX_CARD_BYTES: Final = 100_000


def read_card(path: Path) -> EmotionModel:
    """Return the record of the network in the ONNX file at `path`.

    Its name is the file's and the beginning of the SHA-256, so that rows tell which of several
    versions made them. Raises CardError, one line, or WeightsMissing where a file is not there.
    """
    card = path.with_suffix(".toml")
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise WeightsMissing(f"cannot read the network {path}: {e.strerror}") from e
    said = _parsed(card)
    _check(card, said)
    if said.get("sha256", digest) != digest:
        raise CardError(f"{path} does not match the sha256 of its card: it is {digest}")
    try:
        return EmotionModel(
            name=f"{path.stem}@{digest[:8]}",
            module="onnx",
            origin=UserFile(path=path, sha256=digest),
            licence=said["licence"],
            source=said.get("source", str(path)),
            size_mb=round(path.stat().st_size / 1e6, 1),
            classes=tuple(_class(card, name) for name in said["classes"]),
            input_px=said["input_px"],
            colour=said["colour"],
            mean=tuple(float(value) for value in said["mean"]),
            std=tuple(float(value) for value in said["std"]),
            crop=CropRule(
                margin=float(said.get("margin", 0.0)),
                derotate_above_deg=float(said.get("derotate_above_deg", 15.0)) or None,
                shape=said.get("crop", "square"),
            ),
            flip=said.get("flip", False),
            outputs=said["outputs"],
        )
    except (TypeError, ValueError) as e:
        raise CardError(f"{card}: {e}") from e


def _parsed(card: Path) -> dict[str, Any]:
    try:
        data = card.read_bytes()
    except FileNotFoundError as e:
        raise CardError(f"{card} is missing: a network needs its card (docs/models.md)") from e
    except OSError as e:
        raise CardError(f"cannot read {card}: {e.strerror}") from e
    if len(data) > _MAX_CARD_BYTES:
        raise CardError(f"{card} is larger than a card can be")
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise CardError(f"{card} is no TOML: {e}") from e


def _check(card: Path, said: Mapping[str, Any]) -> None:
    if missing := [name for name in _NEEDED if name not in said]:
        raise CardError(f"{card} lacks {', '.join(missing)}")
    if unknown := [name for name in said if name not in _TYPES]:
        raise CardError(f"{card} says {unknown[0]!r}, and may say {', '.join(_TYPES)}")
    for name, value in said.items():
        types = _TYPES[name]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            kinds = " or ".join(kind.__name__ for kind in types)
            raise CardError(f"{card}: {name} must be {kinds}, not {value!r}")
        choices = _CHOICES.get(name)
        if choices is not None and value not in choices:
            raise CardError(f"{card}: {name} must be one of {', '.join(choices)}, not {value!r}")


def _class(card: Path, name: object) -> str | None:
    if name == LEFT_OUT:
        return None
    known = SYNONYMS.get(str(name).lower())
    if known is None:
        choices = ", ".join((*EMOTIONS, *AFFECT))
        raise CardError(f"{card}: no class is called {name!r}: {choices}, or - to leave one out")
    return known
