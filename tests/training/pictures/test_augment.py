import io

import numpy as np
import pytest
import torch
from PIL import Image

from training.pictures import augment


@pytest.fixture
def faces(rng: torch.Generator) -> torch.Tensor:
    """(4, 1, 48, 48), a smooth picture with an off-centre spot."""
    at = torch.arange(48.0)
    spot = torch.exp(-((at[None, :] - 32) ** 2 + (at[:, None] - 14) ** 2) / 40)
    return (0.2 + 0.6 * spot).expand(4, 1, 48, 48).contiguous()


def moved(faces: torch.Tensor, **changed: torch.Tensor) -> torch.Tensor:
    n = len(faces)
    how = {
        "degrees": torch.zeros(n),
        "scale": torch.ones(n),
        "shift": torch.zeros(n, 2),
        "mirror": torch.ones(n),
    }
    return augment.warp(faces, **(how | changed), padding="border")


def spot_of(faces: torch.Tensor) -> tuple[int, int]:
    row, column = divmod(int(faces[0, 0].argmax()), faces.shape[-1])
    return row, column


def test_moving_by_nothing_changes_nothing(faces: torch.Tensor) -> None:
    torch.testing.assert_close(moved(faces), faces, atol=1e-4, rtol=0)


def test_mirror(faces: torch.Tensor) -> None:
    mirrored = moved(faces, mirror=-torch.ones(4))
    torch.testing.assert_close(mirrored, faces.flip(3), atol=1e-4, rtol=0)


def test_a_quarter_turn_moves_the_spot(faces: torch.Tensor) -> None:
    assert spot_of(faces) == (14, 32)
    row, column = spot_of(moved(faces, degrees=torch.full((4,), 90.0)))
    assert (row, column) == (15, 14)


def test_scale_above_one_pushes_the_spot_out(faces: torch.Tensor) -> None:
    row, column = spot_of(moved(faces, scale=torch.full((4,), 1.3)))
    assert row < 14
    assert column > 32


def test_jpeg_is_about_what_a_jpeg_file_does(rng: torch.Generator) -> None:
    noise = torch.rand(1, 1, 6, 6, generator=rng)
    face = torch.nn.functional.interpolate(noise, size=(48, 48), mode="bicubic").clamp(0, 1)
    pixels = (face[0, 0] * 255).round()
    ours = augment.jpeg(pixels[None, None] / 255, 20)[0, 0] * 255
    file = io.BytesIO()
    Image.fromarray(pixels.byte().numpy()).save(file, "JPEG", quality=20)
    theirs = np.asarray(Image.open(file)).astype(np.float32)
    assert abs(ours.numpy() - theirs).mean() < 0.6  # rounding errors
    assert abs(pixels.numpy() - theirs).mean() > 2


def test_shrinking_leaves_the_mean(faces: torch.Tensor) -> None:
    small = augment.shrink(faces, 24)
    assert small.shape == faces.shape
    assert float(small.mean()) == pytest.approx(float(faces.mean()), abs=1e-3)
    assert small.std() < faces.std()


def test_side_light_brightens_one_side(faces: torch.Tensor) -> None:
    flat = torch.full_like(faces, 0.5)
    lit = augment.side_light(flat, torch.full((4, 1, 1, 1), 0.6), torch.zeros(4, 1, 1, 1))
    assert float(lit[..., -1].mean()) == pytest.approx(0.8)
    assert float(lit[..., 0].mean()) == pytest.approx(0.2)


def test_erasing_covers_a_part_of_each_face(faces: torch.Tensor, rng: torch.Generator) -> None:
    covered = (augment.erase(faces, rng) != faces).flatten(1).float().mean(1)
    assert (covered > 0.01).all()
    assert (covered < 0.25).all()


def test_turning_the_head_moves_the_spot_and_leaves_the_rows(faces: torch.Tensor) -> None:
    torch.testing.assert_close(
        augment.yaw(faces, torch.zeros(4, 1, 1, 1)), faces, atol=1e-4, rtol=0
    )
    places = [
        spot_of(augment.yaw(faces, torch.full((4, 1, 1, 1), degrees))) for degrees in (30.0, -30.0)
    ]
    assert [row for row, _ in places] == [14, 14]
    assert places[0][1] > 33 > places[1][1]  # the side turned towards the camera is wider


def test_glasses_cover_the_eyes_and_a_hand_the_lower_half(rng: torch.Generator) -> None:
    flat = torch.full((64, 1, 48, 48), 0.7)
    worn = (augment.glasses(flat, rng) - flat).abs().mean((0, 1))
    assert worn[18:22, 13:17].mean() > 5 * worn[30:].mean()
    held = (augment.cover(flat, rng) - flat).abs().mean((0, 1))
    assert held[34:].mean() > 5 * held[:14].mean()


def test_interlacing_moves_every_second_line(faces: torch.Tensor) -> None:
    combed = augment.interlace(faces, 2)
    torch.testing.assert_close(combed[:, :, ::2], faces[:, :, ::2])
    torch.testing.assert_close(combed[:, :, 1::2, 2:], faces[:, :, 1::2, :-2])
    doubled = augment.interlace(faces, 0)
    torch.testing.assert_close(doubled[:, :, 1::2], doubled[:, :, ::2])


def test_a_poor_stream_is_near_the_picture_and_softer(rng: torch.Generator) -> None:
    noise = torch.rand(2, 1, 48, 48, generator=rng)
    shown = augment.stream(noise, 10, (3, 5))
    assert shown.std() < 0.8 * noise.std()
    assert float(shown.mean()) == pytest.approx(float(noise.mean()), abs=0.05)


def test_faces_that_are_not_chosen_stay_bit_for_bit(rng: torch.Generator) -> None:
    faces = torch.rand(64, 1, 48, 48, generator=rng)
    seen: list[int] = []

    def darken(some: torch.Tensor) -> torch.Tensor:
        seen.append(len(some))
        return some / 2

    changed = augment.on_some(faces, 0.25, rng, darken)
    at = (changed != faces).flatten(1).any(1)
    assert seen == [int(at.sum())]
    assert 0 < seen[0] < 32
    torch.testing.assert_close(changed[at], faces[at] / 2, rtol=0, atol=0)
    assert augment.on_some(faces, 0.0, rng, darken) is faces


def test_everything_together_stays_in_range_and_can_be_repeated(faces: torch.Tensor) -> None:
    many = faces[:1].expand(64, 1, 48, 48).contiguous()
    first, again = (augment.augment(many, torch.Generator().manual_seed(11)) for _ in range(2))
    assert first.shape == many.shape
    assert first.min() >= 0
    assert first.max() <= 1
    torch.testing.assert_close(first, again)
    assert len({face.numpy().tobytes() for face in first}) == 64
