"""Show: the parameters of a watch, from prefect.yaml, the UI's form or the terminal."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotion.weights.catalogue import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL
from flows.alerts import MAX_ALERTS, Alert
from flows.capture.quality import Quality
from flows.capture.redaction import clean
from flows.errors import UsageError

_UNITS_S: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
DURATION_PATTERN: Final = r"^(\s*\d+(\.\d+)?\s*[dhms])+\s*$"
SLUG_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,62}$"
MAX_SHOW: Final = timedelta(days=7)
DEFAULT_DURATION: Final = "1h"


def titled(title: str) -> object:
    """Return the metadata that titles a parameter in Prefect's form, instead of its name."""
    return Field(json_schema_extra={"title": title})


Duration = Annotated[str, Field(pattern=DURATION_PATTERN)]
# Prefect's form explains an invalid value by printing the pattern: so the pattern begins with an
# example. If that text itself is typed in, `make_show` refuses it.
DurationField = Annotated[
    str,
    Field(
        pattern=r"^(30s, 45m, 1h30m or 2d|(\s*\d+(\.\d+)?\s*[dhms])+\s*)$",
        examples=["30s", "45m", "1h30m"],
    ),
    titled("How long"),
]
WaitField = Annotated[
    str,
    Field(pattern=r"^(0s, 10m or 2h|(\s*\d+(\.\d+)?\s*[dhms])+\s*)$", examples=["0s", "10m", "2h"]),
    titled("Wait at most"),
]
NameField = Annotated[
    str,
    Field(pattern=r"^(lower-case letters, digits and hyphens|[a-z0-9][a-z0-9-]{0,62}|)$"),
    titled("Channel's name"),
]
Slug = Annotated[str, Field(pattern=SLUG_PATTERN, examples=["nasa", "evening-news"])]
LANGUAGE_PATTERN: Final = r"^([A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*)?$"
Language = Annotated[str, Field(pattern=LANGUAGE_PATTERN, max_length=35)]
LanguageField = Annotated[
    str,
    Field(pattern=r"^(en, de or pt-BR|([A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*)?)$", max_length=35),
    titled("Audio language"),
]
Url = Annotated[str, Field(min_length=8, max_length=2048), titled("URL of the show")]
Alerts = Annotated[tuple[Alert, ...], Field(max_length=MAX_ALERTS), titled("Emotion alerts")]
QualityName = Literal["720p", "480p", "1080p", "720p, 30 fps", "1080p, 30 fps", "verbatim"]
"""Upper bound of the recorded picture: its shorter side, so that portrait counts like landscape."""

_QUALITIES: Final[dict[str, Quality]] = {
    "480p": Quality(height_px=480),
    "720p": Quality(height_px=720),
    "720p, 30 fps": Quality(height_px=720, fps=30),
    "1080p": Quality(height_px=1080),
    "1080p, 30 fps": Quality(height_px=1080, fps=30),
    "verbatim": Quality(height_px=None),
}
AnalysedFps = Annotated[float, Field(gt=0, le=60), titled("Frames a second")]
DetectorName = Literal["retinaface-mobilenet0.25", "retinaface-resnet50"]
EmotionModelName = Literal[
    "showmood-expression-2",
    "showmood-expression-1",
    "mini-xception",
    "enet_b0_8_best_vgaf",
    "enet_b0_8_best_afew",
    "enet_b0_8_va_mtl",
    "enet_b2_8",
    "own",
]
"""Networks by name; "own" is the operator's file (SHOWMOOD_OWN_EMOTION_MODEL), never a path."""


FIRST_YEAR: Final = 1800
LAST_YEAR: Final = 9000


def parse_duration(text: str, *, longest: timedelta = MAX_SHOW, or_none: bool = False) -> timedelta:
    """Parse a duration such as "30s", "45m", "1h30m" or "2d".

    or_none: accept "0s". Raises UsageError for anything else, and for more than `longest`.
    """
    if not re.match(DURATION_PATTERN, text):
        raise UsageError(f"{text!r} is not a duration: write it as 30s, 45m, 1h30m or 2d")
    seconds = sum(
        float(number) * _UNITS_S[unit]
        for number, unit in re.findall(r"(\d+(?:\.\d+)?)\s*([dhms])", text)
    )
    if not (0 < seconds <= longest.total_seconds() or (or_none and seconds == 0)):
        raise UsageError(
            f"a duration of {text!r} is out of range: more than 0 s, at most {longest.days}d"
        )
    return timedelta(seconds=seconds)


def parse_time(text: str) -> datetime:
    """Parse an ISO 8601 time, without a zone as local time; return it as aware UTC.

    Raises UsageError for anything else.
    """
    try:
        time = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as e:
        raise UsageError(f"{text!r} is not a time: write it as 2026-11-22T20:00:00+01:00") from e
    if not FIRST_YEAR <= time.year <= LAST_YEAR:  # sums with it must not overflow datetime
        raise UsageError(f"{text!r} is out of range: years {FIRST_YEAR} to {LAST_YEAR}")
    return time


def parse_since(text: str) -> datetime:
    """Parse a time: "24h" (before now) or ISO 8601; return it as aware UTC.

    Raises UsageError for anything else.
    """
    if re.match(DURATION_PATTERN, text):
        ago = parse_duration(text, longest=timedelta(days=36500), or_none=True)
        return datetime.now(UTC) - ago
    return parse_time(text)


def parse_until(text: str | None) -> datetime:
    """Parse the end of a time range like `parse_since`; now where the text is empty."""
    return parse_since(text) if text else datetime.now(UTC)


def slug_of(url: str) -> str:
    """Derive a channel name from a URL: youtube.com/@nasa/live gives youtube-nasa-live."""
    if url.startswith("camera:"):
        return re.sub(r"[^a-z0-9]+", "-", url.lower()).strip("-")[:63]
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:  # reported where the URL is checked
        return "channel"
    host = (host or "channel").removeprefix("www.")
    host = host.rsplit(".", 1)[0] if not re.fullmatch(r"[\d.]+|.*:.*", host) else host
    stem = re.sub(r"\.(m3u8|mpd|html?)$", "", parts.path)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{host}-{stem}".lower()).strip("-")[:63].rstrip("-")
    return slug or "channel"


class Show(BaseModel):
    """What to watch, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Url
    name: Slug | None = None
    duration: Duration = DEFAULT_DURATION
    analysed_fps: AnalysedFps = 5.0
    detector: DetectorName = DEFAULT_DETECTOR
    emotion_model: EmotionModelName = DEFAULT_EMOTION_MODEL
    alerts: Alerts = ()
    give_up_after: Duration = "10m"
    quality: QualityName = "720p"
    audio_language: Language = ""

    @property
    def limits(self) -> Quality:
        """Return the upper bound of the recorded picture."""
        return _QUALITIES[self.quality]

    @property
    def slug(self) -> str:
        """Return the channel's name in the database."""
        return self.name or slug_of(self.url)

    @property
    def length(self) -> timedelta:
        """Return how long to watch, from the first segment on."""
        return parse_duration(self.duration)

    @property
    def max_wait(self) -> timedelta:
        """Return how long to wait for a show to begin, or to come back when it is off air."""
        return parse_duration(self.give_up_after, or_none=True)


def make_show(**parameters: object) -> Show:
    """Check the parameters of a watch; raises UsageError, one line that names the field."""
    try:
        show = Show.model_validate(parameters)
    except ValidationError as e:
        raise UsageError(
            "; ".join(
                f"{'.'.join(map(str, error['loc']))}: {_explained(error['type'], error['msg'])}"
                f" (it is {clean(repr(error['input']))})"
                for error in e.errors()
            )
        ) from e
    parse_duration(show.duration)
    parse_duration(show.give_up_after, or_none=True)
    return show


def _explained(kind: str, message: str) -> str:
    if kind == "string_pattern_mismatch" and LANGUAGE_PATTERN in message:
        return "name a language as en, de or pt-BR, or leave it empty"
    if kind == "string_pattern_mismatch" and SLUG_PATTERN in message:
        return "use lower-case letters, digits and hyphens, at most 63"
    if kind == "string_pattern_mismatch":
        return "write it as 30s, 45m, 1h30m or 2d"
    return message
