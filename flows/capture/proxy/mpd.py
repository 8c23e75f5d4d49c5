"""Rewrites DASH manifests (ISO/IEC 23009-1) for ffmpeg, with our names for all URLs.

Only numbers, dates and durations of the source's text are kept, so that no URL can slip through.
One video and one audio representation are listed.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urljoin
from xml.parsers import expat

from flows.capture.net.address import read_host
from flows.capture.playlists.playlist import Part
from flows.capture.proxy.mpd_dates import origin_of, starts_of
from flows.capture.quality import Offer, Quality, in_order
from flows.capture.segment import NoStream, UnsafeURL

MAX_ELEMENTS: Final = 50_000
_DEEPEST: Final = 16

_DATE: Final = re.compile(r"[0-9T:.Z+-]{1,40}")
_DURATION: Final = re.compile(r"P[0-9.YMDTHS]{1,40}")
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_RATE: Final = re.compile(r"[0-9]{1,6}(/[0-9]{1,6})?")
_RANGE: Final = re.compile(r"([0-9]{1,15})-([0-9]{1,15})")
_VALUE: Final = re.compile(r"\$(Number|Time|RepresentationID|Bandwidth|)(?:%0([0-9]{1,2})d)?\$")

_DATES: Final = ("availabilityStartTime", "availabilityEndTime", "publishTime")
_DURATIONS: Final = (
    "minimumUpdatePeriod",
    "timeShiftBufferDepth",
    "minBufferTime",
    "suggestedPresentationDelay",
    "mediaPresentationDuration",
)
_SOURCES: Final = ("SegmentTemplate", "SegmentList")
_NUMBERS: Final = ("timescale", "duration", "startNumber", "presentationTimeOffset")

Name = Callable[[Part], str]
NameOfMany = Callable[[str, tuple[str, ...]], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Choice(Offer):
    """A representation; within: its adaptation set and its period."""

    element: ET.Element
    within: tuple[ET.Element, ...]
    kind: str
    base: str


def rename_mpd(
    body: bytes,
    at: str,
    *,
    name: Name,
    name_of_many: NameOfMany,
    quality: Quality | None = None,
) -> tuple[bytes, tuple[datetime, ...]]:
    """Return the rewritten manifest, and the date of timestamp 0 of each period's video, if known.

    at: the manifest's URL. name: returns our name of a file or a byte range. name_of_many: returns
    our name of a template's URL, given which of `$Number$` and `$Time$` it contains. quality: the
    upper bound. Raises NoStream, and UnsafeURL for a URL that is neither http nor https.
    """
    try:
        root = _parse(body)
    except (expat.ExpatError, LookupError, ValueError) as e:
        raise NoStream(f"{at}: a broken DASH manifest ({e})") from e
    if root.tag != "MPD":
        raise NoStream(f"{at}: not a DASH manifest")
    out = ET.Element("MPD", {"type": "dynamic" if root.get("type") == "dynamic" else "static"})
    _copy(root, out, _DATES, _DATE)
    _copy(root, out, _DURATIONS, _DURATION)
    n_listed = 0
    origins: list[datetime | None] = []
    starts = starts_of(root)
    for period in root.findall("Period"):
        made = ET.SubElement(out, "Period")
        _copy(period, made, ("start", "duration"), _DURATION)
        choices = _choices(period, _base(root, at))
        for kind in ("video", "audio"):
            of_kind = [each for each in choices if each.kind == kind]
            if not of_kind:
                continue
            chosen = (in_order(of_kind, quality or Quality()) or of_kind)[0]
            _list(chosen, made, name=name, name_of_many=name_of_many)
            if kind == "video":
                n_listed += 1
                sources = [e for tag in _SOURCES for e in _nearest(chosen, tag)]
                origins.append(origin_of(starts.get(period), sources))
    if not n_listed:
        raise NoStream(f"{at}: a DASH manifest without a video that can be recorded")
    written = bytes(ET.tostring(out, encoding="utf-8", xml_declaration=True))
    return written, tuple(each for each in origins if each is not None)


def fill(template: str, *, number: str, time: str) -> str:
    """Return the URL that a template gives for a number and a time."""

    def value(found: re.Match[str]) -> str:
        if not found[1]:
            return "$"
        return {"Number": number, "Time": time}.get(found[1], "").zfill(int(found[2] or 1))

    return _VALUE.sub(value, template)


def _parse(body: bytes) -> ET.Element:
    """Return the tree, names without prefixes; raises ValueError for a suspicious manifest."""
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    depth = n_elements = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, n_elements
        depth, n_elements = depth + 1, n_elements + 1
        if depth > _DEEPEST or n_elements > MAX_ELEMENTS:
            raise ValueError("too many elements, or nested too deeply")
        builder.start(tag.rpartition(":")[2], attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag.rpartition(":")[2])

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(body, True)
    return builder.close()


def _choices(period: ET.Element, base: str) -> list[_Choice]:
    found = []
    for group in period.findall("AdaptationSet"):
        component = group.find("ContentComponent")
        base_of_group = _base(group, _base(period, base))
        for each in group.findall("Representation"):
            types = " ".join(
                element.get(key, "")
                for element in (each, component, group)
                if element is not None
                for key in ("contentType", "mimeType")
            )
            kind = next((kind for kind in ("video", "audio") if kind in types), "")
            width, height, bandwidth = (
                _number(each.get(key) or group.get(key) or "")
                for key in ("width", "height", "bandwidth")
            )
            choice = _Choice(
                element=each,
                within=(group, period),
                kind=kind,
                base=_base(each, base_of_group),
                width_px=width,
                height_px=height,
                bandwidth=bandwidth,
                fps=_rate(each.get("frameRate") or group.get("frameRate") or ""),
                codecs=(each.get("codecs") or group.get("codecs") or "") if kind == "video" else "",
            )
            if any(_nearest(choice, tag) for tag in _SOURCES):
                found.append(choice)
    return found


def _list(choice: _Choice, period: ET.Element, *, name: Name, name_of_many: NameOfMany) -> None:
    group = ET.SubElement(period, "AdaptationSet", {"contentType": choice.kind})
    made = ET.SubElement(group, "Representation", {"id": choice.kind, "contentType": choice.kind})
    _copy(choice.element, made, ("bandwidth", "width", "height"), _WHOLE)
    _copy(choice.element, made, ("frameRate",), _RATE)
    templates = _nearest(choice, "SegmentTemplate")
    lists = _nearest(choice, "SegmentList")
    sources = templates or lists
    into = ET.SubElement(made, sources[0].tag)
    for source in reversed(sources):
        _copy(source, into, _NUMBERS, _WHOLE)
    if templates:
        values = {
            "RepresentationID": choice.element.get("id", ""),
            "Bandwidth": choice.element.get("bandwidth", ""),
        }
        init, media = (_first(templates, key) for key in ("initialization", "media"))
        if init:
            url = _address(choice.base, fill(_materialize(init, values), number="", time=""))
            into.set("initialization", name(Part(url=url)))
        if media:
            template = urljoin(choice.base, _materialize(media, values))
            _address(choice.base, fill(template, number="0", time="0"))
            used = tuple(key for key in ("Number", "Time") if f"${key}" in template)
            into.set("media", name_of_many(template, used))
    else:
        _list_all(lists, into, choice.base, name)
    timeline = next(
        (t for each in sources if (t := each.find("SegmentTimeline")) is not None), None
    )
    if timeline is not None:
        times = ET.SubElement(into, "SegmentTimeline")
        for each in timeline.findall("S"):
            _copy(each, ET.SubElement(times, "S"), ("t", "d", "r"), _WHOLE)


def _list_all(lists: list[ET.Element], into: ET.Element, base: str, name: Name) -> None:
    init = next((i for each in lists if (i := each.find("Initialization")) is not None), None)
    if init is not None:
        part = _part(base, init.get("sourceURL", ""), init.get("range"))
        ET.SubElement(into, "Initialization", {"sourceURL": name(part)})
    urls = next((u for each in lists if (u := each.findall("SegmentURL"))), [])
    for url in urls:
        part = _part(base, url.get("media", ""), url.get("mediaRange"))
        ET.SubElement(into, "SegmentURL", {"media": name(part)})


def _part(base: str, url: str, byte_range: str | None) -> Part:
    address = _address(base, url)
    found = _RANGE.fullmatch(byte_range or "")
    if byte_range is None or not found:
        return Part(url=address)
    first, last = int(found[1]), int(found[2])
    return Part(url=address, offset=first, length=max(1, last - first + 1))


def _nearest(choice: _Choice, tag: str) -> list[ET.Element]:
    """Return the elements of this tag that apply to a representation, the nearest first."""
    places = (choice.element, *choice.within)
    return [found for each in places if (found := each.find(tag)) is not None]


def _first(elements: list[ET.Element], key: str) -> str | None:
    return next((value for each in elements if (value := each.get(key))), None)


def _materialize(template: str, values: Mapping[str, str]) -> str:
    """Fill a template's values, except for numbers and times."""

    def value(found: re.Match[str]) -> str:
        return values[found[1]].zfill(int(found[2] or 1)) if found[1] in values else found[0]

    return _VALUE.sub(value, template)


def _base(element: ET.Element, base: str) -> str:
    found = element.find("BaseURL")
    text = (found.text or "").strip() if found is not None else ""
    return _address(base, text) if text else base


def _address(base: str, url: str) -> str:
    try:
        address = urljoin(base, url)
    except ValueError:
        raise UnsafeURL(f"{base}: leads to an invalid URL") from None
    read_host(address)
    return address


def _copy(
    source: ET.Element, into: ET.Element, names: tuple[str, ...], form: re.Pattern[str]
) -> None:
    for key in names:
        if form.fullmatch(value := source.get(key, "")):
            into.set(key, value)


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0


def _rate(text: str) -> float:
    if not _RATE.fullmatch(text):
        return 0.0
    frames, _, seconds = text.partition("/")
    return int(frames) / (int(seconds or 1) or 1)
