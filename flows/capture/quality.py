"""Chooses which of a stream's sizes is recorded, for offers of sites and of playlists alike."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

_H264_COUNTS: Final = 2.99
"""Factor on H.264's pixels: it goes before another codec unless that has three times as many."""

_USUAL_PX: Final = 720
_USUAL_BITS_PER_S: Final = 3_500_000
"""Bit rate that stands for 720 lines where an offer has no size."""

_SOUND: Final = ("mp4a", "ac-3", "ec-3", "ac-4", "opus", "vorb", "flac", "mp3", "alac", "none")
_H264: Final = re.compile(r"avc[134]|h264")


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Upper bound of a recording. height_px: the shorter side. None: without limit."""

    height_px: int | None = _USUAL_PX
    fps: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """One size of a stream; 0 and "" where unknown. bandwidth: bits a second."""

    width_px: int = 0
    height_px: int = 0
    fps: float = 0.0
    bandwidth: int = 0
    codecs: str = ""


AnyOffer = TypeVar("AnyOffer", bound=Offer)


def is_sound_only(offer: Offer) -> bool:
    """Return whether an offer is known to have no picture."""
    named = [each.strip().lower() for each in offer.codecs.split(",") if each.strip()]
    has_size = offer.width_px or offer.height_px
    return bool(named) and not has_size and all(each.startswith(_SOUND) for each in named)


def in_order(offers: Iterable[AnyOffer], quality: Quality) -> list[AnyOffer]:
    """Return offers with a picture, best first.

    The best is the largest within the limits, else the smallest beyond them, by the shorter side;
    H.264 goes before other codecs of about its size.
    """
    pictured = [each for each in offers if not is_sound_only(each)]
    sized = any(_shorter_px(each) for each in pictured)
    return sorted(pictured, key=lambda each: _key(each, quality, sized), reverse=True)


def _key(offer: Offer, quality: Quality, sized: bool) -> tuple[float, ...]:
    shorter = _shorter_px(offer)
    fits = quality.height_px is None or (
        shorter <= quality.height_px
        if sized
        else offer.bandwidth <= _USUAL_BITS_PER_S * (quality.height_px / _USUAL_PX) ** 2
    )
    fits_fps = quality.fps is None or offer.fps <= quality.fps + 0.5
    counts = _H264_COUNTS if _H264.search(offer.codecs.lower()) else 1.0
    size = _pixels(offer) * counts
    if sized and not shorter:
        return (-1.0, 0.0, 0.0, offer.bandwidth)  # of unknown size: last
    sign = 1 if fits else -1
    return (float(fits), float(fits_fps), sign * size, sign * offer.bandwidth)


def _shorter_px(offer: Offer) -> int:
    return min(offer.width_px or offer.height_px, offer.height_px or offer.width_px)


def _pixels(offer: Offer) -> float:
    width, height = offer.width_px, offer.height_px
    return width * height if width and height else (width or height) ** 2 * 16 / 9
