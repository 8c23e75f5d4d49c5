"""Download of one file from a pinned host, over https, with a size limit, and verified.

For networks that are in no package. Redirects are followed only to the hosts of the record;
the URL names a commit or a release, and the hash is checked.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from emotion.weights.fetch import FetchFailed

Progress = Callable[[int, int | None], None]
"""Called with the bytes received and the total, None if unknown."""

_MAX_REDIRECTS: Final = 3
_TIMEOUT: Final = httpx.Timeout(30, connect=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """A file on the web.

    url: https. hosts: allowed targets of redirects. max_bytes: size limit. One of
    git_blob: the file's id in its git repository; sha256: its full SHA-256; by_content: no hash is
    published, and the converter checks that the file has exactly the network's tensors.
    """

    url: str
    max_bytes: int
    hosts: tuple[str, ...] = ()
    git_blob: str | None = None
    sha256: str | None = None
    by_content: bool = False

    def __post_init__(self) -> None:
        """Check for https and exactly one, complete, identification."""
        known = (self.git_blob is not None, self.sha256 is not None, self.by_content)
        if not self.url.startswith("https://") or sum(known) != 1:
            raise ValueError(f"{self.url}: need https, and one of git_blob, sha256 and by_content")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self.url}: sha256 has 64 hexadecimal digits, not {self.sha256!r}")

    def describes(self, data: bytes) -> bool:
        """Return whether these bytes match the hash; always True with `by_content`."""
        if self.git_blob is not None:
            return git_blob_id(data) == self.git_blob
        return self.by_content or hashlib.sha256(data).hexdigest() == self.sha256


def git_blob_id(data: bytes) -> str:
    """Return the id that git gives a file of this content (SHA-1 over a header and the bytes)."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def only_member(data: bytes, *, max_bytes: int) -> bytes | None:
    """Return the content of a zip file's only member; None for other files."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.infolist()
            if len(names) != 1 or names[0].file_size > max_bytes:
                return None
            return archive.read(names[0])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
        return None


def download(asset: Asset, *, progress: Progress | None = None) -> bytes:
    """Return the verified file.

    Uses the environment's proxy variables and SSL_CERT_FILE. Raises FetchFailed, one line.
    """
    try:
        with httpx.Client(timeout=_TIMEOUT) as client:
            data = _body(asset, client, progress)
    except httpx.HTTPError as e:
        host = urlsplit(asset.url).hostname
        raise FetchFailed(f"cannot fetch {asset.url}: {_reason(e)} (is {host} reachable?)") from e
    if not asset.describes(data):
        raise FetchFailed(
            f"{asset.url} is not the file of the record: {len(data)} bytes, "
            f"SHA-256 {hashlib.sha256(data).hexdigest()}"
        )
    return data


def _body(asset: Asset, client: httpx.Client, progress: Progress | None) -> bytes:
    allowed = {urlsplit(asset.url).netloc, *asset.hosts}
    url = httpx.URL(asset.url)
    for _ in range(_MAX_REDIRECTS + 1):
        if url.scheme != "https" or url.netloc.decode() not in allowed:
            raise FetchFailed(f"{asset.url} redirects to {url.scheme}://{url.host}: not allowed")
        with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
            if response.next_request is not None:
                url = response.next_request.url
                continue
            if response.status_code != httpx.codes.OK:
                raise FetchFailed(f"cannot fetch {asset.url}: HTTP {response.status_code}")
            return _read(asset, response, progress)
    raise FetchFailed(f"{asset.url} redirects more than {_MAX_REDIRECTS} times")


def _read(asset: Asset, response: httpx.Response, progress: Progress | None) -> bytes:
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isascii() and length.isdigit() else None
    too_large = f"{asset.url} is larger than {asset.max_bytes >> 20} MB: not the file of the record"
    if total is not None and total > asset.max_bytes:
        raise FetchFailed(too_large)
    data = bytearray()
    for chunk in response.iter_raw():
        data += chunk
        if len(data) > asset.max_bytes:
            raise FetchFailed(too_large)
        if progress is not None:
            progress(len(data), total)
    return bytes(data)


def _reason(error: httpx.HTTPError) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
