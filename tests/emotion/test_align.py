import numpy as np
import pytest
import torch

from emotion.align import crops, regions, thumbnails
from emotion.detection.detect import no_faces
from emotion.types import Faces, Frames
from emotion.weights.store import CropRule

CPU = torch.device("cpu")
PLAIN = CropRule(margin=0.0, derotate_above_deg=None)


def _face(box, *, frame=0, roll_deg=0.0):
    x0, y0, x1, y1 = box
    centre, reach = np.array(((x0 + x1) / 2, (y0 + y1) / 2)), (x1 - x0) / 4
    angle = np.deg2rad(roll_deg)
    eye = reach * np.array((np.cos(angle), np.sin(angle)))
    points = np.stack((centre - eye, centre + eye, centre, centre, centre))
    return Faces(
        frame=np.array([frame], dtype=np.int64),
        boxes=np.array([box], dtype=np.float32),
        scores=np.ones(1, dtype=np.float32),
        landmarks=points[None].astype(np.float32),
    )


def _joined(*faces):
    return Faces(
        frame=np.concatenate([f.frame for f in faces]),
        boxes=np.concatenate([f.boxes for f in faces]),
        scores=np.concatenate([f.scores for f in faces]),
        landmarks=np.concatenate([f.landmarks for f in faces]),
    )


def _frames(images, *, scale=1):
    return Frames(
        images=images,
        offset_s=np.arange(len(images), dtype=np.float64),
        source_width_px=images.shape[2] * scale,
        source_height_px=images.shape[1] * scale,
    )


@pytest.fixture
def noise() -> Frames:
    rng = np.random.default_rng(0)
    return _frames(rng.integers(0, 256, (3, 60, 80, 3), dtype=np.uint8))


def test_a_square_box_of_the_very_size_is_copied(noise):
    crop = crops(noise, _face((10, 20, 42, 52), frame=1), PLAIN, size_px=32, gray=False, device=CPU)
    expected = noise.images[1, 20:52, 10:42].transpose(2, 0, 1)
    np.testing.assert_allclose(crop[0], expected, atol=1e-2)


def test_gray_is_bt601(noise):
    crop = crops(noise, _face((10, 20, 42, 52)), PLAIN, size_px=32, gray=True, device=CPU)
    expected = noise.images[0, 20:52, 10:42] @ np.array((0.299, 0.587, 0.114))
    np.testing.assert_allclose(crop[0, 0], expected, atol=1e-2)


def test_boxes_in_source_pixels_find_smaller_frames(noise):
    smaller = _frames(noise.images, scale=3)
    crop = crops(smaller, _face((30, 60, 126, 156)), PLAIN, size_px=32, gray=True, device=CPU)
    same = crops(noise, _face((10, 20, 42, 52)), PLAIN, size_px=32, gray=True, device=CPU)
    torch.testing.assert_close(crop, same, rtol=0, atol=1e-2)


def test_a_large_face_is_averaged_not_sampled():
    stripes = np.zeros((1, 128, 128, 3), dtype=np.uint8)
    stripes[:, :, ::2] = 200  # finer than the crop can show
    crop = crops(
        _frames(stripes), _face((0, 0, 128, 128)), PLAIN, size_px=32, gray=True, device=CPU
    )
    np.testing.assert_allclose(crop[0, 0], 100, atol=1)


def test_a_tall_box_becomes_a_square_about_its_centre():
    centre, size, _ = regions(_face((10, 0, 30, 40)), PLAIN)
    assert centre.tolist() == [[20, 20]]
    assert size.tolist() == [[40, 40]]


def test_a_rule_of_boxes_stretches_the_box_to_the_square(noise):
    rule = CropRule(margin=0.0, derotate_above_deg=None, shape="box")
    centre, size, _ = regions(_face((10, 0, 30, 40)), rule)
    assert centre.tolist() == [[20, 20]]
    assert size.tolist() == [[20, 40]]
    columns = np.repeat(np.arange(40, dtype=np.uint8)[None, :, None], 40, axis=0)
    ramp = _frames(np.repeat(columns, 3, axis=2)[None])
    crop = crops(ramp, _face((10, 0, 30, 40)), rule, size_px=40, gray=True, device=CPU)
    np.testing.assert_allclose(crop[0, 0, 20, 1:-1], 9.75 + np.arange(1, 39) / 2, atol=1e-2)


def test_the_margin_is_a_share_of_the_side():
    _, size, _ = regions(_face((0, 0, 100, 100)), CropRule(margin=0.1))
    np.testing.assert_allclose(size, [[120, 120]])


@pytest.mark.parametrize(
    ("roll_deg", "expected_deg"), [(0, 0), (14, 0), (-14, 0), (20, 20), (-50, -50), (170, 170)]
)
def test_only_a_roll_beyond_fifteen_degrees_is_undone(roll_deg, expected_deg):
    _, _, angle = regions(_face((0, 0, 100, 100), roll_deg=roll_deg), CropRule(margin=0.0))
    np.testing.assert_allclose(np.rad2deg(angle), [expected_deg], atol=1e-3)


def test_eyes_that_nearly_coincide_turn_nothing():
    face = _face((0, 0, 100, 100))
    face.landmarks[0, :2] = ((50, 40), (52, 50))
    _, _, angle = regions(face, CropRule(margin=0.0))
    assert angle.tolist() == [0]


def test_a_turned_face_comes_out_upright(noise):
    turned = _frames(np.ascontiguousarray(np.rot90(noise.images, -1, axes=(1, 2))))
    upright = crops(
        noise, _face((24, 14, 56, 46)), CropRule(margin=0.0), size_px=32, gray=True, device=CPU
    )
    # a quarter turn clockwise takes (x, y) to (60 - y, x)
    face = _face((14, 24, 46, 56), roll_deg=90)
    undone = crops(turned, face, CropRule(margin=0.0), size_px=32, gray=True, device=CPU)
    torch.testing.assert_close(undone, upright, rtol=0, atol=0.1)


def test_the_edge_repeats_outside_the_picture():
    images = np.full((1, 40, 40, 3), 77, dtype=np.uint8)
    crop = crops(
        _frames(images), _face((-20, -20, 20, 20)), PLAIN, size_px=16, gray=True, device=CPU
    )
    np.testing.assert_allclose(crop[0, 0], 77, atol=1e-3)


def test_many_faces_of_several_frames_and_sizes_come_out_in_order(noise):
    each = [
        _face((0, 0, 30, 30), frame=0),
        _face((5, 5, 70, 55), frame=0),
        _face((9, 9, 20, 20), frame=2),
        _face((10, 10, 58, 58), frame=2, roll_deg=40),
    ]
    rule = CropRule(margin=0.1)
    together = crops(noise, _joined(*each), rule, size_px=24, gray=True, device=CPU)
    alone = [crops(noise, face, rule, size_px=24, gray=True, device=CPU) for face in each]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize(("gray", "channels"), [(True, 1), (False, 3)])
def test_no_faces_give_no_crops(noise, gray, channels):
    empty = crops(noise, no_faces(), PLAIN, size_px=48, gray=gray, device=CPU)
    assert empty.shape == (0, channels, 48, 48)


def test_a_source_whose_pixels_are_not_square_gives_the_same_crops(portrait):
    box = np.array([[178, 107, 354, 328]], dtype=np.float32)
    eyes = np.array([[[230, 200], [300, 240], [265, 240], [235, 280], [300, 280]]], np.float32)

    def crop(squeeze: float):
        narrow = np.array((squeeze, 1), dtype=np.float32)
        return crops(
            Frames(
                images=portrait[None],
                offset_s=np.zeros(1),
                source_width_px=round(512 * squeeze),
                source_height_px=600,
            ),
            Faces(
                frame=np.zeros(1, dtype=np.int64),
                boxes=box * np.tile(narrow, 2),
                scores=np.ones(1, dtype=np.float32),
                landmarks=eyes * narrow,
            ),
            CropRule(margin=0.1),
            size_px=48,
            gray=True,
            device=torch.device("cpu"),
        )

    torch.testing.assert_close(crop(0.5), crop(1.0), atol=1.0, rtol=0)


def test_thumbnails_are_the_mean_gray_of_the_box_also_at_the_pictures_edge():
    image = np.zeros((1, 100, 120, 3), dtype=np.uint8)
    image[0, 20:68, 10:58] = (200, 100, 50)
    frames = _frames(np.concatenate((image, image // 2)), scale=2)
    faces = _joined(
        _face((20, 40, 116, 136)), _face((20, 40, 116, 136), frame=1), _face((-60, -50, 20, 30))
    )
    pictures = torch.from_numpy(frames.images).unbind()
    got = thumbnails(frames, faces, PLAIN, pictures)
    gray = np.array((200, 100, 50)) @ np.array((0.299, 0.587, 0.114))
    assert got.shape == (3, 256)
    np.testing.assert_allclose(got.mean(dim=1), (gray, gray / 2, 0), atol=0.5)
