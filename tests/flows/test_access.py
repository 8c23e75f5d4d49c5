"""The secret of a home, and what is made of it."""

import stat
import threading
from pathlib import Path

import pytest

from flows.access import COOKIE_S, FILE, Access, basic
from flows.errors import UsageError


def test_secret_is_made_once_and_nobody_elses(tmp_path: Path) -> None:
    found: list[Access] = []
    threads = [
        threading.Thread(target=lambda: found.append(Access.make(tmp_path))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1, "also where several start at once"
    assert Access.read(tmp_path) == found[0]
    assert [file.name for file in tmp_path.iterdir()] == [FILE]
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert found[0].secret not in repr(found[0])


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (None, 0, "showmood up"),
        ("x" * 43, 0o644, "open to others"),
        ("x" * 43, 0o660, "open to others"),
        ("", 0o600, "holds no secret"),
        ("short", 0o600, "holds no secret"),
        ("é" * 43, 0o600, "holds no secret"),
        ("x\n" * 43, 0o600, "holds no secret"),
    ],
    ids=["none", "read by all", "written by a group", "empty", "short", "no ASCII", "lines"],
)
def test_secret_that_is_none_is_one_line(
    tmp_path: Path, content: str | None, mode: int, said: str
) -> None:
    if content is not None:
        (tmp_path / FILE).write_text(content)
        (tmp_path / FILE).chmod(mode)
    with pytest.raises(UsageError, match=said) as caught:
        Access.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_opens_and_what_does_not(tmp_path: Path) -> None:
    access, other = Access.make(tmp_path), Access(secret="y" * 43)
    link = access.link("http://127.0.0.1:4200")
    assert access.opens(link.removeprefix("http://127.0.0.1:4200"))
    assert not access.opens("/login/")
    assert not other.opens(link.removeprefix("http://127.0.0.1:4200"))
    assert access.takes_cookie(access.cookie())
    assert not other.takes_cookie(access.cookie())
    assert not access.takes_cookie(access.cookie(now_s=-COOKIE_S)), "an old one"
    for wrong in ("", "-", "1-2", "9999999999-x", access.cookie() + "0", "9" + access.cookie()):
        assert not access.takes_cookie(wrong)
    (header,) = access.headers.values()
    assert access.takes_basic(header)
    for wrong in ("", "Basic", "Basic x", "Bearer x", f"Basic {access.secret}", "Basic w7w="):
        assert not access.takes_basic(wrong)
    operators = Access(secret=access.secret, also="operator:word")
    assert operators.takes_basic(basic("operator:word")["Authorization"])
    assert not Access(secret=access.secret, also="").takes_basic(basic("")["Authorization"])
