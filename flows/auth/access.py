"""Authentication of the embedded server: a secret in its home, and a link and cookies from it.

Prefect's clients send the secret (PREFECT_API_AUTH_STRING); a browser gets a cookie for the link.
Both are as good as a password. Deleting the file and restarting invalidates all of them.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from flows.errors import UsageError

FILE: Final = "secret"
USER: Final = "showmood"
"""The user name of HTTP Basic authentication."""

LOGIN: Final = "/login/"
"""Path of the link, before its key."""

COOKIE_S: Final = 30 * 86400
"""Seconds that a browser stays logged in."""

SECRET_BYTES: Final = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """The credentials of a server. also: the operator's own, as "user:password"."""

    secret: str = field(repr=False)
    also: str | None = field(default=None, repr=False)

    @classmethod
    def make(cls, home: Path) -> Self:
        """Return the access of a home folder; creates its secret if there is none.

        Raises UsageError as `read` does, and OSError if it cannot be written.
        """
        file = home / FILE
        if not file.exists():
            part = home / f".{FILE}-{secrets.token_hex(4)}"
            part.touch(mode=0o600, exist_ok=False)
            try:
                part.write_text(f"{secrets.token_urlsafe(SECRET_BYTES)}\n", encoding="ascii")
                os.link(part, file)  # atomic, and never replaces one made at the same time
            except FileExistsError:
                pass
            finally:
                part.unlink()
        return cls.read(home)

    @classmethod
    def read(cls, home: Path) -> Self:
        """Return the access of a home folder.

        Raises UsageError if there is no secret, or its file is readable by others or damaged.
        """
        file = home / FILE
        try:
            with file.open(encoding="ascii", errors="replace") as opened:
                status = os.fstat(opened.fileno())
                secret = opened.read(4096).strip()
        except FileNotFoundError as e:
            raise UsageError(
                f"no server was started in {home} yet: run showmood up, or set SHOWMOOD_HOME"
            ) from e
        except OSError as e:
            raise UsageError(f"{file} cannot be read: {e.strerror}") from e
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise UsageError(
                f"{file} is open to others: delete it, and restart showmood up, which makes another"
            )
        if len(secret) < SECRET_BYTES or not secret.isascii() or not secret.isprintable():
            raise UsageError(
                f"{file} holds no secret: delete it, and restart showmood up, which makes another"
            )
        return cls(secret=secret)

    def apart(self, name: str, *, also: str | None = None) -> "Access":
        """Return the access of another server of this home; cookies are valid for one only."""
        return Access(secret=self._made("server", name), also=also)

    @property
    def auth_string(self) -> str:
        """Return the value of PREFECT_API_AUTH_STRING for Prefect's clients."""
        return f"{USER}:{self.secret}"

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that authenticates us."""
        return basic(self.auth_string)

    def link(self, ui_url: str) -> str:
        """Return the URL that logs a browser in."""
        return f"{ui_url}{LOGIN}{self._made('link')}"

    def opens(self, path: str) -> bool:
        """Return whether this is the link's path."""
        return _same(path, f"{LOGIN}{self._made('link')}")

    def cookie(self, now_s: float | None = None) -> str:
        """Return the value of a new cookie."""
        until = f"{(time.time() if now_s is None else now_s) + COOKIE_S:.0f}"
        return f"{until}-{self._made('cookie', until)}"

    def takes_cookie(self, value: str) -> bool:
        """Return whether the value is of a valid cookie of ours."""
        until, _, _ = value.partition("-")
        ours = _same(value, f"{until}-{self._made('cookie', until)}")
        return ours and until.isdecimal() and int(until) > time.time()

    def takes_basic(self, header: str) -> bool:
        """Return whether the Authorization header is HTTP Basic with the secret."""
        scheme, _, coded = header.strip().partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            return self.takes(base64.b64decode(coded.strip(), validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            return False

    def takes(self, auth_string: str) -> bool:
        """Return whether this is our auth string, or the operator's."""
        ours = _same(auth_string, self.auth_string)
        return ours or (bool(self.also) and _same(auth_string, str(self.also)))

    def _made(self, *of: str) -> str:
        return hmac.new(self.secret.encode(), " ".join(of).encode(), hashlib.sha256).hexdigest()


def basic(auth_string: str) -> dict[str, str]:
    """Return the HTTP Basic header for "user:password"."""
    return {"Authorization": f"Basic {base64.b64encode(auth_string.encode()).decode()}"}


def _same(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode(errors="replace"), b.encode(errors="replace"))
