"""Renewed cookies are written back to the operator's file."""

from pathlib import Path

import pytest

from flows.capture.net.cookies import read_cookies, write_cookies
from flows.capture.source.operator.cookies_file import update_cookies
from flows.capture.source.operator.private_files import read_private


def text_of(**values: str) -> str:
    return "".join(f"a.test\tFALSE\t/\tFALSE\t1999999999\t{n}\t{v}\n" for n, v in values.items())


def values_of(path: Path) -> dict[str, str | None]:
    return {each.name: each.value for each in read_cookies(path.read_text())}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cookies.txt"
    path.write_text(text_of(one="1", two="2"))
    path.chmod(0o600)
    return path


def test_two_shows_of_one_file_keep_each_others_new_values(file: Path) -> None:
    before = read_private(file, 1000)
    update_cookies(file, before=before, after=text_of(one="1", two="NEW"))
    update_cookies(file, before=before, after=text_of(one="NEW", two="OLD", three="3"))
    assert values_of(file) == {"one": "NEW", "two": "NEW"}


def test_an_export_of_another_account_stays_as_it_is(file: Path) -> None:
    before = read_private(file, 1000)
    file.write_text(text_of(one="other"))
    update_cookies(file, before=before, after=text_of(one="NEW", two="NEW", three="NEW"))
    assert file.read_text() == text_of(one="other")


def test_a_file_with_windows_line_ends_is_renewed_and_keeps_its_mode(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    file.chmod(0o400)
    update_cookies(file, before=read_private(file, 1000), after=text_of(one="NEW"))
    assert values_of(file) == {"one": "NEW", "two": "2"}
    assert file.stat().st_mode & 0o777 == 0o400


def test_the_field_for_subdomains_counts_as_much_as_the_dot() -> None:
    line = "{}\tTRUE\t/\tFALSE\t0\tname\tvalue\n"
    for written, domain in (
        ("a.test", ".a.test"),
        (".a.test", ".a.test"),
        ("10.0.0.1", "10.0.0.1"),
    ):
        [cookie] = read_cookies(line.format(written))
        assert cookie.domain == domain


def test_a_cookie_with_letters_in_utf8_does_not_break_the_file(file: Path) -> None:
    # 0x85, the second byte of a letter, is an end of line to Python.
    new = text_of(one="\u00c3\u0085").encode().decode()
    update_cookies(file, before=read_private(file, 1000), after=new)
    assert values_of(file) == {"one": "\u00c3\u0085", "two": "2"}


@pytest.mark.parametrize("character", ["\0", "\v", "\x7f", "\u20ac"])
def test_cookies_that_cannot_be_sent_are_left_out(character: str) -> None:
    kept, odd = read_cookies(text_of(one="1", two="2"))
    odd.value = f"a{character}b"
    assert [each.name for each in read_cookies(write_cookies([kept, odd]))] == ["one"]
    with pytest.raises(ValueError, match="line 1 has a character that can't be sent"):
        read_cookies(text_of(one=f"a{character}b"))
