"""Reads and checks the values of sources.toml, by key."""

import netrc
import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from flows.capture.headers import can_be_sent
from flows.capture.net.address import FORBIDDEN, STREAM_SCHEMES
from flows.capture.net.cookies import MAX_FILE_CHARS, read_cookies
from flows.capture.net.upstream import DIRECT, Upstream
from flows.capture.source.operator.private_files import read_private, require_own_code

SecretOf = Callable[[str], str]
"""Returns a secret's text by its name; raises ValueError."""

MAX_FILE_BYTES: Final = 1 << 20
_OF_HTTP: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that belong to one connection or request: set for all, they break it."""

_BROWSER: Final = re.compile(r"[a-z0-9]+(-[\w.]+)?(:[a-z0-9]+(-[\w.]+)?)?")


SETTINGS: Final = (
    "cookies",
    "proxy",
    "user_agent",
    "headers",
    "netrc",
    "extractor_arguments",
    "player_clients",
    "plugins",
    "impersonate",
)
"""The settings of a site."""


def no_secrets(name: str) -> str:
    """Raise ValueError: there is no Prefect server here."""
    raise ValueError(f"the secret {name!r} is read from a Prefect server, and none is known here")


def unread_secrets(name: str) -> str:
    """Return an empty text for a secret: used to check the file alone."""
    return ""


class Values:
    """Reads values; each method raises ValueError with the cause, but no secret.

    folder: the file's folder, to which paths are relative.
    """

    def __init__(self, folder: Path, secret_of: SecretOf) -> None:
        """Keep the arguments; nothing is read yet."""
        self._folder, self._secret_of = folder, secret_of
        self._readers: dict[str, Callable[[object], Any]] = {
            "cookies": self.cookies,
            "proxy": self.proxy,
            "user_agent": self.user_agent,
            "headers": self.headers,
            "netrc": self.netrc,
            "extractor_arguments": self.extractor_arguments,
            "player_clients": texts,
            "plugins": self.plugins,
            "impersonate": browser,
        }

    def read(self, key: str, value: object) -> Any:  # noqa: ANN401
        """Return a setting's parsed value."""
        try:
            return self._readers[key](value)
        except ValueError as e:
            raise ValueError(_named(value, str(e))) from None

    def text(self, value: object) -> str:
        """Return a text, or the text of a secret."""
        if isinstance(value, str):
            return value
        name = value.get("secret") if isinstance(value, dict) and len(value) == 1 else None
        if not isinstance(name, str):
            raise ValueError('write a text, or { secret = "NAME" } for a Secret block of Prefect')
        return self._secret_of(name).strip()  # pasted with an end of line

    def cookies(self, value: object) -> tuple[str, Path | None]:
        """Return the text of a cookies file, and its path; None for a secret."""
        if isinstance(value, dict):
            text, path = self.text(value), None
            if text:
                read_cookies(text)
        else:
            path = self._path(value)
            text = read_private(path, MAX_FILE_CHARS)
            try:
                found = read_cookies(text)
            except ValueError as e:
                raise ValueError(f"{path}: {e}") from None
            if not found:
                raise ValueError(f"{path} holds no cookie: export them again, when logged in")
        return text, path

    def proxy(self, value: object) -> Upstream | None:
        """Return the proxy."""
        text = self.text(value)
        if text == DIRECT or (not text and isinstance(value, dict)):
            return None
        return Upstream.of(text)

    def user_agent(self, value: object) -> str:
        """Return the User-Agent."""
        text = self.text(value)
        if not can_be_sent("User-Agent", text) or (not text and isinstance(value, str)):
            raise ValueError("not a text that HTTP can send")
        return text

    def headers(self, value: object) -> tuple[tuple[str, str], ...]:
        """Return pairs of name and value."""
        if not isinstance(value, dict):
            raise ValueError('write them as headers = { Referer = "https://example.com/" }')
        pairs: list[tuple[str, str]] = []
        for name, given in value.items():
            if name.lower() == "cookie":
                raise ValueError("cookies belong into a cookies file, which has their domains")
            if name.lower() in _OF_HTTP:
                raise ValueError(f"{name} is set for each request by itself; remove it")
            if name.lower() in {known.lower() for known, _ in pairs}:
                raise ValueError(f"{name} is there twice")
            text = self.text(given)
            if not can_be_sent(name, text):
                raise ValueError(f"{name[:40]!r} or its value can't be sent as a header")
            pairs.append((name, text))
        return tuple(pairs)

    def netrc(self, value: object) -> Path | None:
        """Return the netrc file; None for false."""
        if value is False:
            return None
        path = self._path("~/.netrc" if value is True else value)
        read_private(path, MAX_FILE_BYTES)
        try:
            hosts = netrc.netrc(path).hosts
        except netrc.NetrcParseError as e:  # its text may have a password
            raise ValueError(
                f"{path}: line {e.lineno} is not as netrc has it: machine NAME login USER "
                "password WORD"
            ) from None
        if not hosts:
            raise ValueError(f"{path} names no machine")
        return path

    def extractor_arguments(self, value: object) -> dict[str, dict[str, tuple[str, ...]]]:
        """Return arguments for yt-dlp's extractors, as on its command line."""
        wish = 'write them as extractor_arguments.youtube = { player_skip = ["webpage"] }'
        if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
            raise ValueError(wish)
        return {
            extractor.lower(): {
                name.lower().replace("-", "_"): (self.text(given),)
                if isinstance(given, dict)
                else texts(given)
                for name, given in named.items()
            }
            for extractor, named in value.items()
        }

    def plugins(self, value: object) -> tuple[Path, ...]:
        """Return folders of yt-dlp plugins: code, so that only we may write there."""
        folders = tuple(map(self._path, texts(value)))
        for path in folders:
            if not path.is_dir():
                raise ValueError(f"{path} is not a folder")
            require_own_code(path)
            if not any(path.glob("*/yt_dlp_plugins")):
                raise ValueError(f"{path} holds no plugin: it must hold NAME/yt_dlp_plugins")
        return folders

    def camera(self, value: object) -> str:
        """Return a camera's URL."""
        text = self.text(value)
        try:
            parts = urlsplit(text)
            parts.port  # noqa: B018 - raises ValueError, too
        except ValueError:
            raise ValueError("not a URL; encode / ? # @ in a password") from None
        is_known = parts.scheme in STREAM_SCHEMES and parts.hostname
        if not is_known and (text or isinstance(value, str)):
            known = ", ".join(f"{scheme}://" for scheme in STREAM_SCHEMES)
            raise ValueError(f"give one that begins with {known}")
        if FORBIDDEN.search(text):
            raise ValueError("it has a character that URLs can't have: encode it, a space as %20")
        return text

    def _path(self, value: object) -> Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError("name a file or a folder")
        return self._folder / os.path.expanduser(value)


def _named(value: object, wrong: str) -> str:
    """Return an error with the name of the Secret block that the value is in."""
    name = value.get("secret") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(name, str) or wrong.startswith("the "):  # it has its name
        return wrong
    return f"the Secret block {name!r}: {wrong}"


def texts(value: object) -> tuple[str, ...]:
    """Return one text or a list of texts as a tuple."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(t, str) and t for t in found):
        raise ValueError('write a text, or a list as ["a", "b"]')
    return tuple(found)


def browser(value: object) -> str:
    """Return the browser to impersonate, as yt-dlp names it."""
    if not isinstance(value, str) or not _BROWSER.fullmatch(value):
        raise ValueError('name a browser as yt-dlp does, such as "chrome"')
    if find_spec("curl_cffi") is None:
        raise ValueError("it needs curl_cffi: pip install 'showmood[impersonate]'")
    return value
