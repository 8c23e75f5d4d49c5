"""A user's own ONNX file and its card: valid combinations, and errors."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from emotion.classify import Classifier
from emotion.detection.detect import no_faces
from emotion.errors import CardError, OutputsError, WeightsDamaged, WeightsMissing, WrongNetwork
from emotion.pipeline import Analyser, Linker
from emotion.types import EMOTIONS, Faces, Frames
from emotion.weights import store as weights
from emotion.weights.card import read_card

SIDE = 8
CLASSES = ["Angry", "happy", "-", "valence", "arousal"]
CARD = f"""
classes = {CLASSES}
input_px = {SIDE}
colour = "rgb"
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]
outputs = "logits"
licence = "MIT"
margin = 0
derotate_above_deg = 0
"""


def network(
    *,
    side: int = SIDE,
    channels: int = 3,
    outputs: int = 5,
    batch: str | int = "n",
    n_inputs: int = 1,
    n_outputs: int = 1,
    element: int = TensorProto.FLOAT,
    scale: float = 1.0,
) -> bytes:
    """Return an ONNX file that outputs multiples of the mean of each crop's first channel."""
    shape = [batch, channels, side, side]
    numpy_type = helper.tensor_dtype_to_np_dtype(element)
    weight = np.zeros((channels, outputs), dtype=numpy_type)
    weight[0] = np.arange(outputs) * scale
    nodes = [
        helper.make_node("ReduceMean", ["picture", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["answer"]),
    ]
    answers = ["answer"]
    for i in range(1, n_outputs):
        nodes.append(helper.make_node("Identity", ["answer"], [f"answer{i}"]))
        answers.append(f"answer{i}")
    inputs = ["picture", *(f"more{i}" for i in range(1, n_inputs))]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, element, shape) for name in inputs],
        [helper.make_tensor_value_info(name, element, [batch, outputs]) for name in answers],
        [
            numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "axes"),
            numpy_helper.from_array(weight, "weight"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def own(tmp_path):
    """Return a function that writes a network and its card into a folder."""

    def make(data: bytes | None = None, card: str = CARD) -> Path:
        path = tmp_path / "mine.onnx"
        path.write_bytes(network() if data is None else data)
        path.with_suffix(".toml").write_text(card)
        return path

    return make


def _face(value: int) -> tuple[Frames, Faces]:
    images = np.zeros((1, 40, 40, 3), dtype=np.uint8)
    images[..., 0] = value  # red alone
    frames = Frames(images=images, offset_s=np.zeros(1), source_width_px=40, source_height_px=40)
    faces = Faces(
        frame=np.zeros(1, dtype=np.int64),
        boxes=np.array([[4, 4, 30, 36]], dtype=np.float32),
        scores=np.ones(1, dtype=np.float32),
        landmarks=np.zeros((1, 5, 2), dtype=np.float32),
    )
    return frames, faces


def _classifier(path: Path) -> Classifier:
    return Classifier.of(weights.emotion_model(str(path)), device="cpu")


def test_answers_land_in_the_columns_that_the_card_names(own):
    probs, affect = _classifier(own()).answer(*_face(51))  # 0.2 of 255
    expected = np.exp([0.0, 0.2]) / np.exp([0.0, 0.2]).sum()
    anger, happiness = EMOTIONS.index("anger"), EMOTIONS.index("happiness")
    np.testing.assert_allclose(probs[0, [anger, happiness]], expected, atol=1e-5)
    assert np.isnan(np.delete(probs[0], [anger, happiness])).all()
    np.testing.assert_allclose(affect, [[0.6, 0.8]], atol=1e-5)


def test_the_first_channel_is_the_one_that_the_card_says(own):
    blue_first = own(card=CARD.replace('"rgb"', '"bgr"'))
    probs, _ = _classifier(blue_first).answer(*_face(255))
    np.testing.assert_allclose(np.nanmax(probs), 0.5)


def test_valence_and_arousal_stay_within_one(own):
    _, affect = _classifier(own(network(scale=-9.0))).answer(*_face(255))
    assert affect.tolist() == [[-1, -1]]


def test_a_network_without_them_gives_none(own):
    card = CARD.replace("'valence', 'arousal'", "'sad', 'fear'")
    assert _classifier(own(card=card)).answer(*_face(9))[1] is None


def test_no_faces_ask_nothing(own):
    frames, _ = _face(0)
    probs, affect = _classifier(own()).answer(frames, no_faces())
    assert probs.shape == (0, 8)
    assert affect is not None
    assert affect.shape == (0, 2)


def test_rows_tell_which_version_of_the_file_made_them(own, cache_dir):
    one = Analyser(emotion_model=str(own()), device="cpu", cache_dir=cache_dir)
    other = Analyser(emotion_model=str(own(network(scale=2.0))), device="cpu", cache_dir=cache_dir)
    assert one.model.startswith("retinaface-mobilenet0.25+mine@")
    assert one.model != other.model


def test_every_word_for_an_emotion_is_known(own):
    words = ["Neutral", "HAPPY", "surprised", "sadness", "angry", "disgust", "afraid", "contempt"]
    model = read_card(own(card=CARD.replace(str(CLASSES), str(words))))
    assert model.classes == EMOTIONS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.replace('licence = "MIT"', ""), "lacks licence"),
        (lambda c: "", "lacks classes, input_px, colour, mean, std, outputs, licence"),
        (lambda c: c.replace("Angry", "hangry"), "no class is called 'hangry'"),
        (lambda c: c.replace("Angry", "happiness"), "are not of"),
        (lambda c: c + 'color = "rgb"', "says 'color', and may say classes, input_px"),
        (lambda c: c.replace('"rgb"', '"yuv"'), "colour must be one of rgb, bgr, gray"),
        (lambda c: c.replace("= 8", '= "8"'), "input_px must be int, not '8'"),
        (lambda c: c.replace("= 8", "= true"), "input_px must be int, not True"),
        (lambda c: c.replace("= 8", "= -8"), "input_px must be positive"),
        (lambda c: c.replace("mean = [0.0, ", "mean = ["), "mean and std need 3 values"),
        (lambda c: c.replace("mean = [0.0", 'mean = ["a"'), "could not convert"),
        (lambda c: c.replace("std = [1.0", "std = [0"), "std none of 0"),
        (lambda c: c + f'sha256 = "{"0" * 64}"', "does not match the sha256 of its card"),
        (lambda c: c + "=", "is no TOML"),
        (lambda c: c + "#" * 200_000, "larger than a card"),
    ],
)
def test_a_card_that_does_not_fit_is_one_clear_line(own, change, said):
    with pytest.raises(CardError, match=said) as error:
        read_card(own(card=change(CARD)))
    assert "\n" not in str(error.value)


def test_a_network_without_its_card_or_that_is_not_there_is_one_clear_line(own, tmp_path):
    path = own()
    path.with_suffix(".toml").unlink()
    with pytest.raises(CardError, match=r"mine\.toml is missing"):
        read_card(path)
    with pytest.raises(WeightsMissing, match=r"cannot read the network .*other\.onnx"):
        weights.emotion_model(str(tmp_path / "other.onnx"))


def test_a_file_that_changes_after_its_card_was_read_is_refused(own):
    path = own()
    model = weights.emotion_model(str(path))
    path.write_bytes(network(scale=3.0))
    with pytest.raises(WeightsDamaged, match="it was changed"):
        weights.read(model)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (network(side=16), r"input picture is tensor\(float\) \(any, 3, 16, 16\)"),
        (network(channels=1), r"\(any, 1, 8, 8\) where tensor\(float\) \(any, 3, 8, 8\)"),
        (network(outputs=7), r"output answer is tensor\(float\) \(any, 7\)"),
        (network(batch=1), r"\(1, 3, 8, 8\) where"),
        (network(n_inputs=2), "must have one input, but has 2: picture, more1"),
        (network(n_outputs=2), "must have one output, but has 2: answer, answer1"),
        (network(element=TensorProto.DOUBLE), r"input picture is tensor\(double\)"),
        (network()[:-40], "is not a usable ONNX file"),
        (b"", "is not a usable ONNX file"),
        (b"<html>not found</html>", "is not a usable ONNX file"),
    ],
    ids=[
        "size", "channels", "outputs", "one face only", "inputs", "more outputs", "doubles",
        "truncated", "empty", "a web page",
    ],
)  # fmt: skip
def test_another_network_than_the_card_says_is_one_clear_line(own, data, said):
    with pytest.raises(WrongNetwork, match=said) as error:
        _classifier(own(data))
    assert "\n" not in str(error.value)


def test_outputs_that_are_no_numbers_refuse_the_segment(own):
    with pytest.raises(OutputsError, match=r"mine@\w+ returned NaN") as error:
        _classifier(own(network(scale=float("nan")))).classify(*_face(51))
    assert "\n" not in str(error.value)


def test_without_onnx_runtime_the_line_says_what_to_install(own, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(weights.WeightsError, match=r"pip install 'showmood\[onnx\]'"):
        _classifier(own())


def test_valence_and_arousal_reach_the_rows_of_their_faces(own, cache_dir, portrait_frames):
    analyser = Analyser(emotion_model=str(own()), device="cpu", cache_dir=cache_dir)
    detections = analyser.analyse(portrait_frames)
    observations = Linker().update(detections, datetime(2026, 11, 22, tzinfo=UTC))
    assert detections.affect is not None
    assert detections.affect.shape == (1, 2)
    np.testing.assert_array_equal(observations.affect, detections.affect)
