"""The operator's settings for a site: how its pages and streams are requested."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.capture.headers import SiteHeaders
from flows.capture.net.upstream import Upstream


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """Settings for requests of a show's page, and of the stream behind it; empty by default.

    site: as sources.toml names it. cookies: text of a cookies file; cookies_file: the file that
    renewed cookies are written to. netrc: a file, for sites that yt-dlp logs in to.
    extractor_arguments: by extractor and name, as for yt-dlp. plugins: folders of yt-dlp plugins.
    impersonate: a browser, as yt-dlp names it. camera: its URL, with password.
    """

    site: str = ""
    cookies: str = field(default="", repr=False)
    cookies_file: Path | None = None
    upstream: Upstream | None = None
    user_agent: str = ""
    headers: tuple[SiteHeaders, ...] = field(default=(), repr=False)
    netrc: Path | None = None
    extractor_arguments: Mapping[str, Mapping[str, tuple[str, ...]]] = field(
        default_factory=dict, repr=False
    )
    plugins: tuple[Path, ...] = ()
    impersonate: str = ""
    camera: str = field(default="", repr=False)
