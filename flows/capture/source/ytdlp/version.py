"""The installed yt-dlp's age: sites change, and it needs updates within weeks."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import version
from typing import Final, Self

OLD_DAYS: Final = 60
"""Age above which it is reported as a possible cause."""

RENEW: Final = "pip install --upgrade yt-dlp yt-dlp-ejs"
"""The command that updates only yt-dlp."""


@dataclass(frozen=True, kw_only=True, slots=True)
class YtDlp:
    """The installed yt-dlp. age_days: None where its version is not a date."""

    version: str
    age_days: int | None

    @classmethod
    def installed(cls, today: date | None = None) -> Self:
        """Return the installed version and its age."""
        found = version("yt-dlp")
        dated = re.match(r"(\d{4})\.(\d{1,2})\.(\d{1,2})", found)
        if not dated:
            return cls(version=found, age_days=None)
        released = date(*map(int, dated.groups()))
        return cls(version=found, age_days=((today or datetime.now(UTC).date()) - released).days)

    @property
    def warning(self) -> str | None:
        """The advice for an old version; None for a recent one."""
        if self.age_days is None or self.age_days <= OLD_DAYS:
            return None
        return f"yt-dlp is {self.age_days} days old, and sites change: {RENEW}"
