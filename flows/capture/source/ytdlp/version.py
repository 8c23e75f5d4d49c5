"""How old yt-dlp is: sites change, and it follows them within weeks."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import version
from typing import Final, Self

OLD_DAYS: Final = 60
"""Beyond this it is said that it may be why a site can't be read."""

RENEW: Final = "pip install --upgrade yt-dlp yt-dlp-ejs"
"""Renews it and nothing else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class YtDlp:
    """The yt-dlp that is installed. age_days: None where its version is no date."""

    version: str
    age_days: int | None

    @classmethod
    def installed(cls, today: date | None = None) -> Self:
        """Return what is installed, and how old that is."""
        found = version("yt-dlp")
        dated = re.match(r"(\d{4})\.(\d{1,2})\.(\d{1,2})", found)
        if not dated:
            return cls(version=found, age_days=None)
        released = date(*map(int, dated.groups()))
        return cls(version=found, age_days=((today or datetime.now(UTC).date()) - released).days)

    @property
    def warning(self) -> str | None:
        """The advice to add for one that is old."""
        if self.age_days is None or self.age_days <= OLD_DAYS:
            return None
        return f"yt-dlp is {self.age_days} days old, and sites change: {RENEW}"
