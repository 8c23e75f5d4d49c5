"""Chooses which of yt-dlp's formats is recorded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flows.capture.quality import Offer, Quality, in_order


@dataclass(frozen=True, kw_only=True, slots=True)
class _Form(Offer):
    """A yt-dlp format as an offer."""

    form: dict[str, Any]


def choose(context: dict[str, Any], *, quality: Quality) -> Iterator[dict[str, Any]]:
    """Yield the format to record: HLS first, then one stream with picture and sound."""
    forms = [_form(each) for each in context["formats"] if not _is_without_picture(each)]

    def comes_before(form: dict[str, Any]) -> tuple[bool, bool]:
        hls = str(form.get("protocol") or "").startswith("m3u8")
        return hls, hls or form.get("acodec") != "none"

    best = max((comes_before(each.form) for each in forms), default=None)
    kept = [each for each in forms if comes_before(each.form) == best]
    yield from [each.form for each in in_order(kept, quality)[:1]]


def _is_without_picture(form: dict[str, Any]) -> bool:
    return form.get("vcodec") == "none" or form.get("ext") == "mhtml"


def _form(form: dict[str, Any]) -> _Form:
    def number(name: str) -> float:
        value = form.get(name)
        return float(value) if isinstance(value, int | float) and 0 < value < 1e9 else 0.0

    codecs = [str(form.get(name) or "") for name in ("vcodec", "acodec")]
    return _Form(
        form=form,
        width_px=int(number("width")),
        height_px=int(number("height")),
        fps=number("fps"),
        bandwidth=int(1000 * (number("tbr") or number("vbr"))),
        codecs=",".join(each for each in codecs if each and each != "none"),
    )
