"""Rewrites ffmpeg's requests to an RTSP server (RFC 2326) with the real URL and password.

ffmpeg's command line, which all users can read, has neither: the real URL is written into each
request, and `Authorization` is added where the server needs it (RFC 7616; Basic and Digest).
"""

import base64
import hashlib
import re
import secrets
from typing import Final

from flows.capture.proxy.rtsp_messages import Messages
from flows.capture.segment import SourceUnreachable

_REQUEST: Final = re.compile(rb"([A-Z_]{1,30}) ([^ \r\n]+) RTSP/1\.0")
_PAIR: Final = re.compile(r'(\w+)=(?:"([^"]*)"|([^,\s]*))')


class Requests(Messages):
    """Rewrites requests. inner: the URL that ffmpeg has; outer: the real one."""

    def __init__(self, *, inner: str, outer: str, user: str, password: str) -> None:
        """Begin with nothing read."""
        super().__init__(endless="the head of an RTSP request is too long")
        self._inner, self._outer = inner.encode(), outer.encode()
        self._user, self._password = user, password
        self._challenge: dict[str, str] | None = None
        self._last: tuple[bytes, bytes, bytes] | None = None
        self._answered = False
        self._n = 0

    def retry(self, challenge: str) -> bytes | None:
        """Return the last request with credentials for a challenge; None where that can't help."""
        if not self._user or self._last is None or self._answered:
            return None
        scheme, _, rest = challenge.strip().partition(" ")
        found = {name.lower(): a or b for name, a, b in _PAIR.findall(rest)}
        if scheme.lower() not in ("basic", "digest"):
            return None
        self._challenge, self._answered = found | {"scheme": scheme.lower()}, True
        return self._written(*self._last)

    def _take(self) -> bytes:
        if self._buffer.startswith(b"$"):
            return self._packet()
        head = self._head()
        if head is None:
            return b""
        self._cut(len(head) + 4)
        line, _, headers = head.partition(b"\r\n")
        found = _REQUEST.fullmatch(line)
        if found is None:
            raise SourceUnreachable("ffmpeg sent a malformed RTSP request")
        url = found[2]
        if url.startswith(self._inner):
            url = self._outer + url[len(self._inner) :]
        self._last, self._answered = (found[1], url, headers), False
        return self._written(*self._last)

    def _written(self, method: bytes, url: bytes, headers: bytes) -> bytes:
        known = self._authorization(method.decode(), url.decode("latin-1"))
        lines = [method + b" " + url + b" RTSP/1.0", headers]
        if known:
            lines.append(b"Authorization: " + known.encode("latin-1", "replace"))
        return b"\r\n".join([*lines, b"", b""])

    def _authorization(self, method: str, url: str) -> str:
        challenge = self._challenge
        if challenge is None:
            return ""
        if challenge["scheme"] == "basic":
            coded = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
            return f"Basic {coded}"
        realm, nonce = challenge.get("realm", ""), challenge.get("nonce", "")
        is_sha = challenge.get("algorithm", "").upper().startswith("SHA-256")

        def digest(text: str) -> str:
            made = hashlib.sha256 if is_sha else hashlib.md5
            return made(text.encode()).hexdigest()

        ours, theirs = digest(f"{self._user}:{realm}:{self._password}"), digest(f"{method}:{url}")
        fields = {"username": self._user, "realm": realm, "nonce": nonce, "uri": url}
        if "auth" in challenge.get("qop", "").split(","):
            self._n += 1
            count, own = f"{self._n:08x}", secrets.token_hex(8)
            response = digest(f"{ours}:{nonce}:{count}:{own}:auth:{theirs}")
            more = f', qop=auth, nc={count}, cnonce="{own}"'
        else:
            response, more = digest(f"{ours}:{nonce}:{theirs}"), ""
        fields["response"] = response
        if "opaque" in challenge:
            fields["opaque"] = challenge["opaque"]
        pairs = ", ".join(f'{name}="{value}"' for name, value in fields.items())
        algorithm = ", algorithm=SHA-256" if is_sha else ""
        return f"Digest {pairs}{more}{algorithm}"
