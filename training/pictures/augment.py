"""Augmentations of faces, on whole batches.

Every function takes and returns float32 (N, 1, H, W) in 0 to 1.
"""

import math
from collections.abc import Callable
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


_BULGE: Final = 0.85  # share of the half cylinder that a face covers
_EYES: Final = (0.31, 0.69)  # positions across an upright face's crop


def uniform(n: int, low: float, high: float, rng: Generator) -> Tensor:
    """(N, 1, 1, 1) numbers between low and high."""
    return torch.rand(n, 1, 1, 1, generator=rng) * (high - low) + low


def warp(
    x: Tensor, *, degrees: Tensor, scale: Tensor, shift: Tensor, mirror: Tensor, padding: str
) -> Tensor:
    """Rotate, scale, shift and mirror each face.

    degrees, scale: (N,); scale above 1 enlarges the face. shift: (N, 2) in half
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
    """Reduce the resolution to `size_px`: area average down, bilinear up."""
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
    """Quantise 8 by 8 DCT blocks like a gray JPEG of this quality (1 to 100)."""
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


def yaw(x: Tensor, degrees: Tensor) -> Tensor:
    """Turn each face to the side, as on a cylinder. degrees: (N, 1, 1, 1)."""
    n, _, height, width = x.shape
    radians = degrees.view(n, 1, 1) * (math.pi / 180)
    across, down = (torch.linspace(-1 + 1 / s, 1 - 1 / s, s) for s in (width, height))
    round_it = torch.asin(_BULGE * across).view(1, 1, -1)
    source = (torch.sin(round_it + radians) - torch.sin(radians)) / _BULGE
    grid = torch.stack(
        (source.expand(n, height, width), down.view(1, -1, 1).expand(n, height, width)), dim=-1
    )
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def ellipse(n: int, size: int, centre: Tensor, radius: Tensor) -> Tensor:
    """(N, 1, S, S), 1 inside, 0 outside, with soft edges. centre, radius: (N, 2) x y, 0 to 1."""
    at = (torch.arange(size) + 0.5) / size
    x = (at.view(1, 1, 1, -1) - centre[:, 0].view(n, 1, 1, 1)) / radius[:, 0].view(n, 1, 1, 1)
    y = (at.view(1, 1, -1, 1) - centre[:, 1].view(n, 1, 1, 1)) / radius[:, 1].view(n, 1, 1, 1)
    return torch.sigmoid((1 - (x * x + y * y)) * 12)


def _between(n: int, low: tuple[float, float], high: tuple[float, float], rng: Generator) -> Tensor:
    """(N, 2) random numbers, x between the first two, y between the second two."""
    least, most = torch.tensor(low), torch.tensor(high)
    return torch.rand(n, 2, generator=rng) * (most - least) + least


def glasses(x: Tensor, rng: Generator) -> Tensor:
    """Draw two lenses, clear to dark, over the eyes of upright faces."""
    n, size = len(x), x.shape[-1]
    radius = _between(n, (0.11, 0.08), (0.17, 0.14), rng)
    height = 0.41 + 0.03 * torch.randn(n, generator=rng)
    lenses = torch.zeros_like(x)
    for middle in _EYES:
        centre = torch.stack((torch.full((n,), middle), height), dim=1)
        lens = ellipse(n, size, centre, radius)
        rim = (lens * (1 - lens) * 4).clamp(0, 1)
        lenses = torch.maximum(lenses, torch.maximum(lens * uniform(n, 0, 0.9, rng), rim * 0.7))
    return torch.lerp(x, uniform(n, 0, 0.35, rng).expand_as(x), lenses)


def cover(x: Tensor, rng: Generator) -> Tensor:
    """Cover the lower half or a side of each face, as by a microphone or a hand."""
    n, size = len(x), x.shape[-1]
    hand = (torch.rand(n, generator=rng) < 0.5).view(n, 1)
    low, side = torch.rand(n, 2, generator=rng).unbind(1)
    place = torch.stack((0.1 + 0.8 * side, 0.72 + 0.25 * low), dim=1)
    radius = torch.where(
        hand,
        _between(n, (0.12, 0.1), (0.26, 0.22), rng),
        _between(n, (0.07, 0.1), (0.14, 0.2), rng),
    )
    skin = x.mean((1, 2, 3), keepdim=True) * uniform(n, 0.8, 1.2, rng)
    tone = torch.where(hand.view(n, 1, 1, 1), skin, uniform(n, 0, 0.4, rng))
    grain = F.interpolate(torch.rand(n, 1, 8, 8, generator=rng) - 0.5, size=x.shape[2:])
    shown = (tone + 0.15 * grain).clamp(0, 1)
    return torch.lerp(x, shown, ellipse(n, size, place, radius))


def interlace(x: Tensor, shift_px: int) -> Tensor:
    """Interlace two fields, the second shifted by `shift_px`; at 0 the first field twice."""
    other = x[:, :, ::2] if shift_px == 0 else torch.roll(x[:, :, 1::2], shift_px, dims=3)
    return torch.stack((x[:, :, ::2], other), dim=3).view_as(x)


def stream(x: Tensor, quality: int, offset_px: tuple[int, int]) -> Tensor:
    """Quantise blocks coarsely and smooth their edges, like H.264 at a low bit rate.

    offset_px: down and right, origin of the blocks.
    """
    coarse = jpeg(torch.roll(x, offset_px, dims=(2, 3)), quality)
    return blur(torch.roll(coarse, (-offset_px[0], -offset_px[1]), dims=(2, 3)), 0.45)


def gamma(x: Tensor, exponent: Tensor) -> Tensor:
    """Brighten or darken the mid-tones. exponent: (N, 1, 1, 1)."""
    return x.clamp(1e-3, 1) ** exponent


def relight(x: Tensor, rng: Generator) -> Tensor:
    """Change contrast and brightness of each face."""
    contrast, brightness = uniform(len(x), 0.5, 1.3, rng), uniform(len(x), -0.15, 0.15, rng)
    return ((x - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)


def noise(x: Tensor, deviation: Tensor, rng: Generator) -> Tensor:
    """Add sensor noise. deviation: (N, 1, 1, 1)."""
    return (x + torch.randn(x.shape, generator=rng) * deviation).clamp(0, 1)


def on_some(x: Tensor, share: float, rng: Generator, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a change to a random share of the faces; the others are not computed."""
    at = torch.nonzero(torch.rand(len(x), generator=rng) < share).flatten()
    return x.index_copy(0, at, change(x[at])) if len(at) else x


def augment(x: Tensor, rng: Generator, *, strength: float = 1.0) -> Tensor:
    """Augment a batch: each effect is applied to its own random share of the faces.

    strength: factor of the shares of all effects except geometry.
    """
    n = len(x)

    def draw(low: float, high: float) -> float:
        return float(torch.rand((), generator=rng)) * (high - low) + low

    def on(x: Tensor, share: float, change: Callable[[Tensor], Tensor]) -> Tensor:
        return on_some(x, share * strength, rng, change)

    x = on(x, 0.08, lambda f: glasses(f, rng))
    x = on(x, 0.3, lambda f: yaw(f, uniform(len(f), -40, 40, rng)))
    moved = (torch.rand(n, generator=rng) < 0.9).float()
    x = warp(
        x,
        degrees=uniform(n, -20, 20, rng).flatten() * moved,
        scale=torch.exp(uniform(n, -0.17, 0.17, rng).flatten() * moved),
        shift=(torch.rand(n, 2, generator=rng) - 0.5) * 0.32 * moved[:, None],
        mirror=torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0),
        padding=PADDINGS[int(draw(0, 2.999))],
    )
    x = on(x, 0.12, lambda f: cover(f, rng))
    x = on(x, 0.15, lambda f: shrink(f, int(draw(18, 40))))
    x = on(x, 0.1, lambda f: blur(f, draw(0.5, 1.3)))
    x = on(x, 0.5, lambda f: gamma(f, torch.exp(uniform(len(f), -0.5, 0.5, rng))))
    x = on(x, 0.3, lambda f: side_light(f, *(uniform(len(f), 0, m, rng) for m in (0.7, 360))))
    x = on(x, 0.5, lambda f: relight(f, rng))
    x = on(x, 0.2, lambda f: noise(f, uniform(len(f), 0, 0.06, rng), rng))
    x = on(x, 0.05, lambda f: interlace(f, int(draw(0, 3))))
    x = on(x, 0.15, lambda f: jpeg(f, int(draw(15, 70))))
    x = on(x, 0.15, lambda f: stream(f, int(draw(8, 40)), (int(draw(0, 8)), int(draw(0, 8)))))
    return on(x, 0.25, lambda f: erase(f, rng))
