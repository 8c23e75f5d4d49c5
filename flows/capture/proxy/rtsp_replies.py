"""Filters the replies of an RTSP server (RFC 2326) for ffmpeg."""

import re
from typing import Final

from flows.capture.proxy.rtsp_messages import Messages
from flows.capture.proxy.rtsp_requests import Requests
from flows.capture.segment import SourceUnreachable, UnsafeURL

_MAX_BODY_BYTES: Final = 256 * 1024
_STATUS: Final = re.compile(rb"RTSP/1\.0 (\d{3})(?: [^\r\n\0]*)?")
_HEADER: Final = re.compile(rb"([A-Za-z-]{1,40}): *([^\r\n\0]*)")
_PASSED_ON: Final = frozenset(
    b"cseq session transport content-type content-length content-base public range rtp-info "
    b"www-authenticate server date".split()
)


class Replies(Messages):
    """Filters replies and the packets between them (10.12); redirects are refused."""

    def __init__(self, shown: str, requests: Requests | None = None) -> None:
        """Begin with nothing read. shown: the server's name in errors. requests: ffmpeg's."""
        super().__init__(endless=f"{shown}: the head of an RTSP reply is too long")
        self._shown, self._requests = shown, requests
        self.retry = b""
        """The request to repeat with credentials, in place of the refused one."""

    def _take(self) -> bytes:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):
            del buffer[:2]
        if buffer.startswith(b"$"):
            return self._packet()
        head = self._head()
        if head is None:
            return b""
        lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(lines[0])
        headers = [_HEADER.fullmatch(line) for line in lines[1:]]
        if status is None or None in headers:
            raise SourceUnreachable(f"{self._shown}: a malformed RTSP reply")
        if status[1].startswith(b"3"):
            raise UnsafeURL(
                f"{self._shown}: it redirects, which is not followed; use its target's URL instead"
            )
        kept = [each for each in headers if each and each[1].lower() in _PASSED_ON]
        sizes = [each[2] for each in kept if each[1].lower() == b"content-length"]
        if len(sizes) > 1 or not all(size.isdigit() and len(size) < 7 for size in sizes):
            raise SourceUnreachable(f"{self._shown}: an RTSP reply without a valid size")
        n_bytes = int(sizes[0]) if sizes else 0
        if n_bytes > _MAX_BODY_BYTES:
            raise SourceUnreachable(f"{self._shown}: a reply larger than {_MAX_BODY_BYTES} bytes")
        if len(buffer) < len(head) + 4 + n_bytes:
            return b""
        self._cut(len(head) + 4)
        if status[1] == b"401" and self._requests is not None:
            challenges = [e[2] for e in kept if e[1].lower() == b"www-authenticate"]
            # Digest before Basic, which sends the password in clear text.
            for each in sorted(challenges, key=lambda e: not e.lower().startswith(b"digest")):
                if retry := self._requests.retry(each.decode("latin-1")):
                    self.retry = retry
                    self._cut(n_bytes)
                    return self._take()
        passed = [b"RTSP/1.0 " + status[1] + b" -", *(each[1] + b": " + each[2] for each in kept)]
        return b"\r\n".join([*passed, b"", b""]) + self._cut(n_bytes)
