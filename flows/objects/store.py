"""An object store shared by all machines, given by its URL: s3://, gs://, az://, file://.

Objects are immutable: one that exists is compared, and kept. Credentials come from the usual
environment variables (AWS_..., GOOGLE_..., AZURE_...).
"""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore.store import from_url

from flows.errors import UsageError
from flows.objects.errors import ObjectGone, StoreError, StoreRefused

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

KINDS: Final = ("s3", "gs", "az", "file")
MARK: Final = "showmood.json"
"""Name of the object that holds the id of the installation which owns the store."""

_CODE: Final = re.compile(r"<Code>(\w{1,60})</Code>")
"""The error code in the XML body of an S3 response."""

TIMEOUT_S: Final = 30
CONNECT_TIMEOUT_S: Final = 5


class Objects:
    """The objects below a URL. Its methods block; they raise StoreError, one line each."""

    def __init__(self, url: str) -> None:
        """Open the URL; nothing is requested yet. Raises UsageError for an invalid one."""
        self.url = _without_secrets(url)
        self._looks_first = False
        kind = urlsplit(url).scheme
        if kind not in KINDS:
            raise UsageError(
                f"SHOWMOOD_RECORDINGS_STORE={self.url}: it begins with one of "
                f"{', '.join(f'{each}://' for each in KINDS)}, as s3://bucket/prefix"
            )
        client: ClientConfig = {
            "timeout": f"{TIMEOUT_S}s",
            "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
        }
        if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
            client["allow_http"] = True
        try:
            if kind == "file":
                self._store: ObjectStore = from_url(url, mkdir=True)
            else:
                once: RetryConfig = {
                    "max_retries": 1,
                    "retry_timeout": timedelta(seconds=TIMEOUT_S),
                }
                self._store = from_url(url, client_options=client, retry_config=once)
        except (exceptions.BaseError, ValueError, OSError) as e:
            raise UsageError(
                f"SHOWMOOD_RECORDINGS_STORE={self.url} cannot be opened: {_reason(e)}"
            ) from e

    def claim(self, installation: str) -> None:
        """Mark the store as this installation's; raises StoreRefused if it is another's."""
        mark = json.dumps({"installation": installation}).encode()
        with self._told(MARK):
            found = self._read(MARK)
            if found is None:
                self._create(MARK, mark)
            elif found != mark:
                raise StoreRefused(
                    f"{self.url} belongs to another installation's history: give this one a "
                    "prefix of its own"
                )
            # Some servers overwrite despite a conditional put: then read before each put.
            self._looks_first = self._create(MARK, mark)

    def put(self, key: str, file: Path) -> tuple[int, str]:
        """Store a file as a new object; return its size and SHA-256, in hexadecimal digits.

        Idempotent for the same bytes. Raises StoreRefused if the key holds other bytes, OSError if
        the file cannot be read.
        """
        data = file.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        with self._told(key):
            there = self._read(key) if self._looks_first else None
            if there is None and not self._create(key, data):
                there = self._read(key)
            if there is not None and hashlib.sha256(there).hexdigest() != digest:
                raise StoreRefused(
                    f"{key} in {self.url} is another recording: does another installation "
                    "write there? Give each a prefix of its own"
                )
        return len(data), digest

    def get(self, key: str, to: Path, *, sha256: str | None) -> None:
        """Write an object into a file, atomically.

        Raises ObjectGone where it does not exist, or its SHA-256 differs; OSError.
        """
        part = to.with_name(f".{to.name}.{os.getpid()}-{threading.get_ident()}.part")
        to.parent.mkdir(parents=True, exist_ok=True)
        seen = hashlib.sha256()
        try:
            with self._told(key), part.open("wb") as file:
                for piece in obstore.get(self._store, key).stream():
                    seen.update(piece)
                    file.write(piece)
            if sha256 is not None and seen.hexdigest() != sha256:
                raise ObjectGone(
                    f"{key} in {self.url} is not what was stored (its SHA-256 differs): "
                    "another program changed it"
                )
            part.replace(to)
        finally:
            part.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Delete an object; idempotent."""
        with self._told(key):
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                return

    def keys_below(self, folder: str) -> list[str]:
        """Return the keys of all objects below a folder."""
        with self._told(folder):
            pages = obstore.list(self._store, f"{folder}/")
            return [str(each["path"]) for page in pages for each in page]

    def delete_below(self, folder: str) -> None:
        """Delete all objects below a folder."""
        with self._told(folder):
            for found in obstore.list(self._store, f"{folder}/"):
                obstore.delete(self._store, [each["path"] for each in found])

    def _create(self, key: str, data: bytes) -> bool:
        """Create an object; return False where the key exists."""
        try:
            obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except exceptions.AlreadyExistsError:
            return False
        return True

    def _read(self, key: str) -> bytes | None:
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except FileNotFoundError:
            return None

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Convert the library's errors into StoreError; the only place that does."""
        try:
            yield
        except StoreError:
            raise
        except FileNotFoundError as e:
            raise ObjectGone(f"{key} is not in {self.url}, or there is no such bucket") from e
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as e:
            raise StoreRefused(
                f"{self.url} refuses {key}: wrong credentials, or they may not write ({_reason(e)})"
            ) from e
        except exceptions.BaseError as e:
            raise StoreError(f"{self.url} does not take {key}: {_reason(e)}") from e


def _reason(error: BaseException) -> str:
    """Return the error's first line, at most 300 characters, and S3's error code."""
    text = str(error)
    line = (text.splitlines() or [type(error).__name__])[0]
    code = _CODE.search(text)
    return line.partition(": <")[0][:300] + (f": {code[1]}" if code else "")


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else url
