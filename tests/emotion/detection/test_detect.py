import platform

import numpy as np
import pytest
import torch

from emotion.detection.detect import Detector
from emotion.device import DeviceError, bring, choose_device, pool_memory
from emotion.networks import fuse
from emotion.types import Frames
from emotion.weights.store import load


def _frames(images, *, width=None, height=None):
    return Frames(
        images=np.ascontiguousarray(images),
        offset_s=np.arange(len(images)) / 5,
        source_width_px=width or images.shape[2],
        source_height_px=height or images.shape[1],
    )


def test_finds_the_one_face_of_the_portrait(detector, portrait_frames):
    faces = detector.detect(portrait_frames)
    assert len(faces) == 1
    assert faces.scores[0] > 0.99
    np.testing.assert_allclose(faces.boxes[0], (178, 107, 354, 328), atol=2)


def test_landmarks_are_where_the_names_say(detector, portrait_frames):
    faces = detector.detect(portrait_frames)
    right_eye, left_eye, nose, right_mouth, left_mouth = faces.landmarks[0]
    assert right_eye[0] < nose[0] < left_eye[0]  # the person's right is on the picture's left
    assert right_mouth[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])


def test_boxes_are_in_pixels_of_the_source(detector, portrait):
    whole = detector.detect(_frames(portrait[None]))
    half = detector.detect(_frames(portrait[None, ::2, ::2], width=512, height=600))
    np.testing.assert_allclose(half.boxes, whole.boxes, atol=12)


def test_a_batch_finds_what_each_frame_alone_has(detector, portrait):
    empty = np.full_like(portrait, 90)
    images = np.stack((portrait, empty, portrait[:, ::-1], empty, portrait, portrait, empty))
    together = detector.detect(_frames(images))
    assert together.frame.tolist() == [0, 2, 4, 5]
    alone = [detector.detect(_frames(image[None])).boxes for image in images]
    np.testing.assert_allclose(together.boxes, np.concatenate(alone), atol=1e-2)


def test_faces_of_a_frame_come_best_first(detector, portrait):
    small = portrait[::3, ::3]
    wide = np.full((600, 900, 3), 120, dtype=np.uint8)
    wide[:600, :512] = portrait
    wide[100:300, 600 : 600 + small.shape[1]] = small
    faces = detector.detect(_frames(np.stack((wide, wide))))
    assert faces.frame.tolist() == [0, 0, 1, 1]
    assert (np.diff(faces.scores)[::2] <= 0).all()


def test_boxes_end_at_the_picture_edge(detector, portrait):
    faces = detector.detect(_frames(portrait[None, 150:, :]))
    assert len(faces) == 1
    assert faces.boxes[0, 1] == 0


@pytest.mark.parametrize("n", [0, 2])
def test_no_faces_are_empty_arrays(detector, n):
    faces = detector.detect(_frames(np.zeros((n, 90, 160, 3), dtype=np.uint8)))
    assert len(faces) == 0
    assert faces.boxes.shape == (0, 4)
    assert faces.landmarks.shape == (0, 5, 2)


def test_the_threshold_keeps_weaker_faces_out(cache_dir, portrait_frames):
    strict = Detector(load("retinaface-mobilenet0.25", cache_dir), device="cpu", min_score=0.9999)
    assert len(strict.detect(portrait_frames)) == 0


@pytest.mark.parametrize("name", ["cuda:99", "tpu-pod", "mps", "meta"])
def test_a_device_that_is_not_here_is_one_clear_line(name):
    with pytest.raises(DeviceError, match=name) as error:
        choose_device(name)
    assert "\n" not in str(error.value)


def test_auto_uses_cuda_if_available():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a matter of glibc alone")
def test_threads_can_be_made_to_pool_memory():
    assert pool_memory()


def test_pictures_that_may_not_be_written_to_come_to_the_device(portrait):
    shown = np.broadcast_to(portrait[:, ::-1], (2, *portrait.shape))
    assert not shown.flags.writeable
    np.testing.assert_array_equal(bring(shown, torch.device("cpu")).numpy(), shown)


def test_pictures_that_are_on_the_device_need_not_be_brought(detector, portrait_frames):
    pictures = bring(portrait_frames.images, detector.device)
    there = detector.detect(portrait_frames, pictures)
    np.testing.assert_array_equal(there.boxes, detector.detect(portrait_frames).boxes)


def test_half_precision_as_on_cuda_finds_the_same(cache_dir, portrait, monkeypatch):
    monkeypatch.setattr(fuse, "_onednn_works", lambda *dtype: False)
    small = _frames(portrait[None, ::2, ::2], width=512, height=600)
    halved = Detector(load("retinaface-mobilenet0.25", cache_dir), device="cpu")
    whole = halved.detect(small)
    halved._dtype, halved._network = torch.float16, halved._network.half()
    found = halved.detect(small)
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes, whole.boxes, atol=0.5)
