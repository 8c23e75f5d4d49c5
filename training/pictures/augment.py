"""What may happen to a face between the studio and the crop, on whole batches.

Every function takes and gives float32 (N, 1, H, W) in 0 to 1.
"""

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

PADDINGS: Final = ("zeros", "border", "reflection")

# ITU-T T.81, table K.1: luminance quantisation.
JPEG_LUMINANCE: Final = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


def uniform(n: int, low: float, high: float, rng: Generator) -> Tensor:
    """(N, 1, 1, 1) numbers between low and high."""
    return torch.rand(n, 1, 1, 1, generator=rng) * (high - low) + low


def warp(
    x: Tensor, *, degrees: Tensor, scale: Tensor, shift: Tensor, mirror: Tensor, padding: str
) -> Tensor:
    """Rotate, scale, shift and mirror each face.

    degrees, scale: (N,); scale above 1 shows less of the face, larger. shift: (N, 2) in half
    widths. mirror: (N,) 1 or -1.
    """
    radians = degrees * (math.pi / 180)
    cos, sin = torch.cos(radians) / scale, torch.sin(radians) / scale
    theta = torch.stack(
        (
            torch.stack((cos * mirror, -sin, shift[:, 0]), 1),
            torch.stack((sin * mirror, cos, shift[:, 1]), 1),
        ),
        1,
    )
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    if padding == "zeros":
        mean = x.mean((1, 2, 3), keepdim=True)
        return F.grid_sample(x - mean, grid, padding_mode="zeros", align_corners=False) + mean
    return F.grid_sample(x, grid, padding_mode=padding, align_corners=False)


def shrink(x: Tensor, size_px: int) -> Tensor:
    """Show the face as if it had been `size_px` small: area average down, bilinear up."""
    small = F.interpolate(x, size=(size_px, size_px), mode="area")
    return F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=False)


def blur(x: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur."""
    radius = max(1, round(3 * sigma_px))
    at = torch.arange(-radius, radius + 1, dtype=x.dtype)
    kernel = torch.exp(-(at**2) / (2 * sigma_px**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(x, (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def jpeg(x: Tensor, quality: int) -> Tensor:
    """Quantise 8 by 8 DCT blocks as a gray JPEG of this quality (1 to 100) would."""
    n, _, height, width = x.shape
    k = torch.arange(8, dtype=x.dtype)
    dct = torch.cos((2 * k + 1) * k[:, None] * (math.pi / 16)) * 0.5
    dct[0] *= math.sqrt(0.5)
    factor = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = torch.tensor(JPEG_LUMINANCE, dtype=x.dtype)
    table = ((table * factor + 50) / 100).floor().clamp(1, 255)
    blocks = x.view(n, height // 8, 8, width // 8, 8).transpose(2, 3) * 255 - 128
    coefficients = ((dct @ blocks @ dct.T) / table).round() * table
    blocks = (dct.T @ coefficients @ dct + 128) / 255
    return blocks.transpose(2, 3).reshape(x.shape).clamp(0, 1)


def side_light(x: Tensor, strength: Tensor, degrees: Tensor) -> Tensor:
    """Brighten one side and darken the other by up to `strength` (N, 1, 1, 1)."""
    at = torch.linspace(-1, 1, x.shape[-1])
    radians = degrees * (math.pi / 180)
    ramp = torch.cos(radians) * at.view(1, 1, 1, -1) + torch.sin(radians) * at.view(1, 1, -1, 1)
    return (x * (1 + strength * ramp)).clamp(0, 1)


def erase(x: Tensor, rng: Generator) -> Tensor:
    """Cover a rectangle of each face, 12 to 45 % of the side, with one gray."""
    n, size = len(x), x.shape[-1]
    height, width = uniform(n, 0.12, 0.45, rng), uniform(n, 0.12, 0.45, rng)
    top, left = uniform(n, 0, 1, rng) * (1 - height), uniform(n, 0, 1, rng) * (1 - width)
    at = (torch.arange(size) + 0.5) / size
    rows, columns = at.view(1, 1, -1, 1), at.view(1, 1, 1, -1)
    inside = (rows > top) & (rows < top + height) & (columns > left) & (columns < left + width)
    return torch.where(inside, uniform(n, 0, 1, rng), x)


def stream(x: Tensor, quality: int, offset_px: tuple[int, int]) -> Tensor:
    """Quantise blocks coarsely and smooth their edges, as H.264 at a low rate does.

    offset_px: down and right, where the blocks begin; a face lies anywhere in the picture.
    """
    coarse = jpeg(torch.roll(x, offset_px, dims=(2, 3)), quality)
    return blur(torch.roll(coarse, (-offset_px[0], -offset_px[1]), dims=(2, 3)), 0.45)


def augment(x: Tensor, rng: Generator, *, strength: float = 1.0) -> Tensor:
    """Disturb a batch: each effect falls on its own random share of the faces.

    strength: what the shares of all but the geometry are multiplied by.
    """
    n = len(x)

    def draw(low: float, high: float) -> float:
        return float(torch.rand((), generator=rng)) * (high - low) + low

    def chosen(share: float) -> Tensor:
        return torch.rand(n, generator=rng) < share

    def some(x: Tensor, share: float, change: Tensor) -> Tensor:
        return torch.where(chosen(share * strength).view(-1, 1, 1, 1), change, x)

    moved = chosen(0.9).float()
    x = warp(
        x,
        degrees=uniform(n, -20, 20, rng).flatten() * moved,
        scale=torch.exp(uniform(n, -0.17, 0.17, rng).flatten() * moved),
        shift=(torch.rand(n, 2, generator=rng) - 0.5) * 0.32 * moved[:, None],
        mirror=torch.where(chosen(0.5), -1.0, 1.0),
        padding=PADDINGS[int(draw(0, 2.999))],
    )
    x = some(x, 0.15, shrink(x, int(draw(18, 40))))
    x = some(x, 0.1, blur(x, draw(0.5, 1.3)))
    x = some(x, 0.5, x.clamp(1e-3, 1) ** torch.exp(uniform(n, -0.5, 0.5, rng)))
    x = some(x, 0.3, side_light(x, uniform(n, 0, 0.7, rng), uniform(n, 0, 360, rng)))
    contrast, brightness = uniform(n, 0.5, 1.3, rng), uniform(n, -0.15, 0.15, rng)
    x = some(x, 0.5, ((x - 0.5) * contrast + 0.5 + brightness).clamp(0, 1))
    noise = torch.randn(x.shape, generator=rng) * uniform(n, 0, 0.06, rng)
    x = some(x, 0.2, (x + noise).clamp(0, 1))
    x = some(x, 0.2, jpeg(x, int(draw(15, 70))))
    return some(x, 0.25, erase(x, rng))
