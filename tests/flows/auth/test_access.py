"""The secret of a home, and the keys derived from it."""

import stat
import subprocess
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.auth.access import COOKIE_S, FILE, Access, basic
from flows.commands.operator.access import app
from flows.errors import UsageError
from flows.settings import load_settings
from flows.shows.applying import credentials, server_environment


def test_secret_is_created_once_and_private(tmp_path: Path) -> None:
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
def test_invalid_secret_is_a_one_line_error(
    tmp_path: Path, content: str | None, mode: int, said: str
) -> None:
    if content is not None:
        (tmp_path / FILE).write_text(content)
        (tmp_path / FILE).chmod(mode)
    with pytest.raises(UsageError, match=said) as caught:
        Access.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_accepted_and_refused_keys(tmp_path: Path) -> None:
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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOWMOOD_HOME", str(tmp_path / "of the show's"))
    monkeypatch.setenv("SHOWMOOD_UI_PORT", "4321")
    monkeypatch.setenv("SHOWMOOD_UI_HOSTS", "shows.example.com")
    (tmp_path / "of the show's").mkdir()
    return tmp_path / "of the show's"


def test_link_is_printed_again_for_each_name(home: Path) -> None:
    access = Access.make(home)
    said = CliRunner().invoke(app, ["link"]).stdout.splitlines()
    assert said == [
        access.link(ui) for ui in ("http://127.0.0.1:4321", "https://shows.example.com")
    ]


def test_output_of_env_can_be_evaluated_by_a_shell(home: Path) -> None:
    access = Access.make(home)
    said = CliRunner().invoke(app, ["env"]).stdout
    script = f'{said}\necho "$PREFECT_API_URL $PREFECT_API_AUTH_STRING $DO_NOT_TRACK"'
    known = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert known.split() == ["http://127.0.0.1:4321/api", access.auth_string, "1"]


def test_our_own_commands_send_the_secret(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    before = server_environment(load_settings())
    assert "PREFECT_API_AUTH_STRING" not in before, "nothing was started yet"
    access = Access.make(home)
    assert credentials(server_environment(load_settings())) == access.headers
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.com/api")
    assert credentials(server_environment(load_settings())) == {}, "another's is told nothing"


def test_a_second_server_of_a_home_has_separate_links_and_cookies(tmp_path) -> None:
    first = Access.make(tmp_path)
    page = first.apart("page", also="showmood:word")
    assert not first.takes_cookie(page.cookie())
    assert not page.takes_cookie(first.cookie())
    assert page.takes("showmood:word")
    assert not page.takes(first.auth_string)
    assert first.apart("page").takes_cookie(page.cookie())
