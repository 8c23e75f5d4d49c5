"""sources.toml: the operator's settings for sites and cameras; runs cannot change them.

A mistake is one line, and only disables its own entry.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from flows.capture.headers import SiteHeaders, is_of_site
from flows.capture.redaction import shorten
from flows.capture.segment import CaptureError
from flows.capture.source.operator.access import Access
from flows.capture.source.operator.cameras import CAMERA, is_camera
from flows.capture.source.operator.private_files import read_private
from flows.capture.source.operator.site_names import ANY, host_of, meant_host, unquoted
from flows.capture.source.operator.sources_values import (
    MAX_FILE_BYTES,
    SETTINGS,
    SecretOf,
    Values,
    no_secrets,
    unread_secrets,
)

FILE: Final = "sources.toml"
_TABLES: Final = {
    "all": "[all]",
    "site": '[site."example.com"]',
    "camera": "[camera.studio-2]",
}
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class BadSources(CaptureError):
    """sources.toml has a mistake."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """The file's content; empty where there is no file. mistakes: one line each.

    Values are read on use (`access`, `camera`), as the files and Secret blocks that they name may
    change.
    """

    path: Path = Path(FILE)
    mistakes: tuple[str, ...] = ()
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)
    unread: str | None = field(default=None, repr=False)
    """The text of a file that could not be parsed."""

    @classmethod
    def read(cls, path: Path, *, required: bool = False) -> Self:
        """Read a file; errors are in `mistakes`. required: the file must exist."""
        if not required and not os.path.lexists(path):  # a link to nothing is a mistake
            return cls(path=path)
        try:
            text = read_private(path, MAX_FILE_BYTES)
        except ValueError as e:
            # It may be about any site: no show may run without its settings.
            return cls(path=path, mistakes=(str(e),), unread="[all")
        try:
            content = tomllib.loads(text)
        except RecursionError:
            wrong = f"{path}: not TOML that can be read: too many brackets in brackets"
            return cls(path=path, mistakes=(wrong,), unread=text)
        except ValueError as e:
            return cls(path=path, mistakes=(f"{path}: not TOML: {e}",), unread=text)
        mistakes = tuple(f"{path}: {wrong}" for wrong in cls(path=path, content=content)._look())
        return cls(path=path, mistakes=mistakes, content=content)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The names of the cameras."""
        return tuple(self._table("camera"))

    def access(self, url: str, secret_of: SecretOf = no_secrets) -> Access:
        """Return the settings for a page's URL; raises BadSources for a mistake in them."""
        if is_camera(url):
            return Access(site=url, camera=self.camera(url.removeprefix(CAMERA), secret_of))
        try:
            host = host_of(url)
        except ValueError:
            return Access()
        self._require_read(host)
        for hosts, wrong in self._misnamed():
            # Without these settings a show may not go on: the proxy may be one of them.
            if any(each == ANY or is_of_site(host, each) for each in hosts):
                raise BadSources(f"{self.path}: {wrong}")
        sites = self._table("site")
        site = max((each for each in sites if is_of_site(host, each)), key=len, default="")
        values = self._values(secret_of)
        found: dict[str, Any] = {}
        for where, entry in (("all", self.content.get("all")), (site, sites.get(site))):
            if where and entry is not None:
                for wrong in self._wrong_in(where, entry, values):
                    raise BadSources(f"{self.path}: {wrong}")
                found |= {k: values.read(k, value) for k, value in entry.items() if k in SETTINGS}
        if not found:
            return Access()
        arguments = dict(found.get("extractor_arguments", {}))
        if "player_clients" in found:
            own = arguments.get("youtube", {})
            arguments["youtube"] = own | {"player_client": found["player_clients"]}
        cookies, file = found.get("cookies", ("", None))
        pairs, only_https = found.get("headers", ()), url.lower().startswith("https:")
        return Access(
            site=site or "all",
            cookies=cookies,
            cookies_file=file,
            upstream=found.get("proxy"),
            user_agent=found.get("user_agent", ""),
            headers=(SiteHeaders(site=site, pairs=pairs, only_https=only_https),) if pairs else (),
            netrc=found.get("netrc"),
            extractor_arguments=arguments,
            plugins=found.get("plugins", ()),
            impersonate=found.get("impersonate", ""),
        )

    def camera(self, name: str, secret_of: SecretOf = no_secrets) -> str:
        """Return a camera's URL; raises BadSources."""
        if self.unread is not None:
            raise BadSources(self.mistakes[0])
        cameras = self._table("camera")
        if name not in cameras:
            known = ", ".join(cameras) or "it names none"
            raise BadSources(f"{CAMERA}{name}: no such camera in {self.path} ({known})")
        values = self._values(secret_of)
        for wrong in self._wrong_in_camera(name, cameras[name], values):
            raise BadSources(f"{self.path}: {wrong}")
        return values.camera(cameras[name]["url"])

    # -- mistakes

    def _table(self, name: str) -> dict[str, Any]:
        found = self.content.get(name)
        return found if isinstance(found, dict) else {}

    def _values(self, secret_of: SecretOf) -> Values:
        return Values(self.path.parent, secret_of)

    def _require_read(self, host: str) -> None:
        """Raise BadSources where the file was not parsed, and may be about a host."""
        if self.unread is None:
            return
        parts = host.split(".")
        names = {".".join(parts[n:]) for n in range(max(1, len(parts) - 1))}
        unread = self.unread.lower()
        if "[all" in unread or any(name in unread for name in names):
            raise BadSources(self.mistakes[0])

    def _look(self) -> Iterator[str]:
        values = self._values(unread_secrets)
        for name, value in self.content.items():
            if name in _TABLES and not isinstance(value, dict):
                yield f"{name} is not a table; write {_TABLES[name]}"
        for _, wrong in self._misnamed():
            yield wrong
        if isinstance(self.content.get("all"), dict):
            yield from self._wrong_in("all", self.content["all"], values)
        for site, entry in self._table("site").items():
            if not isinstance(entry, dict) or any(_is_setting(*each) for each in entry.items()):
                yield from self._wrong_in(site, entry, values)
        for name, entry in self._table("camera").items():
            yield from self._wrong_in_camera(name, entry, values)

    def _misnamed(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield each wrong name of a site or table: the hosts that it may mean, and the line."""
        for name, value in self.content.items():
            if name in _TABLES:
                continue
            if name in SETTINGS:
                yield (ANY,), f"'{name}' is in no table; write it below [all] or {_TABLES['site']}"
                continue
            like = difflib.get_close_matches(name, _TABLES, n=1)
            close = like[0] if like and "." not in name else ""
            sites = [name, *(each for each, _ in unquoted(name, value, SETTINGS))]
            if not close and "." in (host := meant_host(sites[-1])):
                yield (host,), f'[{shorten(sites[-1])}] is no table; write [site."{host}"]'
                continue
            inner = (
                [
                    *(value if isinstance(value, dict) else ()),
                    *(each.partition(".")[2] for each in sites),
                ]
                if close
                else []
            )
            hosts = tuple(host for host in map(meant_host, inner) if close and "." in host)
            yield (ANY,) if close == "all" else hosts, _unknown(name, tuple(_TABLES))
        for site, entry in self._table("site").items():
            for inner_name, _ in unquoted(site, entry, SETTINGS):
                host = meant_host(inner_name)
                yield (host,), f'[site.{inner_name}]: write [site."{host or "example.com"}"]'
            host = meant_host(site)
            if host != site:
                wish = f'[site."{host}"]' if host else f"the host alone, as {_TABLES['site']}"
                yield (host,) if host else (), f'[site."{shorten(site)}"]: write {wish}'

    def _wrong_in(self, site: str, entry: object, values: Values) -> Iterator[str]:
        where = "[all]" if site == "all" else f'[site."{site}"]'
        if not isinstance(entry, dict):
            yield f"{where}: not a table"
            return
        if site == "all" and "headers" in entry:
            yield f"{where}: headers belong to a site: under [all], every server would get them"
        if "impersonate" in entry and "headers" in entry:
            yield f"{where}: headers can't be kept from other sites while impersonate is set"
        youtube = entry.get("extractor_arguments")
        youtube = youtube.get("youtube") if isinstance(youtube, dict) else None
        if "player_clients" in entry and isinstance(youtube, dict) and "player_client" in youtube:
            yield f"{where}: player_clients and extractor_arguments.youtube.player_client: keep one"
        for key, value in entry.items():
            if not _is_setting(key, value):
                continue  # a site without quotes
            if key not in SETTINGS:
                yield f"{where}: {_unknown(key, SETTINGS)}"
                continue
            try:
                values.read(key, value)
            except ValueError as e:
                yield f"{where}: {key}: {e}"

    def _wrong_in_camera(self, name: str, entry: object, values: Values) -> Iterator[str]:
        where = f"[camera.{name}]"
        if not _NAME.fullmatch(name):
            yield f"{where}: name it in lower-case letters, digits and hyphens"
        if not isinstance(entry, dict) or "url" not in entry:
            yield f'{where}: write its address as url = "rtsp://..."'
            return
        for key in entry:
            if key != "url":
                yield f"{where}: {_unknown(key, ('url',))}"
        try:
            values.camera(entry["url"])
        except ValueError as e:
            yield f"{where}: url: {e}"


def _is_setting(key: str, value: object) -> bool:
    """Return whether it is meant as a setting, and not as a part of a site's name."""
    return key in SETTINGS or not isinstance(value, dict)


def _unknown(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"{name[:40]!r} is not a setting; {meant}"
