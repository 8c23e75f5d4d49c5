import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows.capture.source.operator.sources import BadSources, Sources

COOKIE = ".site.test\tTRUE\t/\tTRUE\t1999999999\tname\tSECRET\n"


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def write(tmp_path: Path):
    private(tmp_path / "cookies.txt", COOKIE)
    (tmp_path / "plugins" / "one" / "yt_dlp_plugins").mkdir(parents=True)
    (tmp_path / "empty").mkdir()

    def make(text: str) -> Sources:
        return Sources.read(private(tmp_path / "sources.toml", text))

    return make


def test_a_missing_file_has_no_settings(tmp_path: Path) -> None:
    sources = Sources.read(tmp_path / "sources.toml")
    assert sources.mistakes == ()
    assert sources.access("https://site.test/live").site == ""
    (mistake,) = Sources.read(tmp_path / "sources.toml", required=True).mistakes
    assert mistake.endswith("can't be read: No such file or directory")


def test_settings_apply_to_a_site_and_its_subdomains(write, tmp_path: Path) -> None:
    sources = write(
        """
        [all]
        user_agent = "One/1"
        proxy = "http://name:p%40ss@proxy.test:3128"
        [site."site.test"]
        cookies = "cookies.txt"
        player_clients = ["tv", "web"]
        extractor_arguments.youtube = { player-skip = "webpage", po_token = { secret = "pot" } }
        headers = { X-Key = { secret = "key" } }
        plugins = "plugins"
        [site."live.site.test"]
        user_agent = "Two/2"
        [camera.studio-2]
        url = { secret = "camera" }
        """
    )
    assert sources.mistakes == ()
    assert sources.cameras == ("studio-2",)
    held = {"pot": "TOKEN", "key": "KEY", "camera": "rtsp://a:b@10.0.0.5/live"}
    access = sources.access("https://www.site.test/x", held.__getitem__)
    assert (access.site, access.user_agent, access.cookies) == ("site.test", "One/1", COOKIE)
    assert access.upstream is not None
    assert (str(access.upstream), access.upstream.password) == ("http://proxy.test:3128", "p@ss")
    assert access.extractor_arguments["youtube"] == {
        "player_skip": ("webpage",),
        "po_token": ("TOKEN",),
        "player_client": ("tv", "web"),
    }
    assert access.headers[0].pairs == (("X-Key", "KEY"),)
    assert access.plugins == (tmp_path / "plugins",)
    assert "SECRET" not in repr(access)
    assert "TOKEN" not in repr(access)
    assert sources.access("https://live.site.test/").user_agent == "Two/2"
    assert sources.access("https://notsite.test/").cookies == ""
    assert sources.camera("studio-2", held.__getitem__) == held["camera"]
    with pytest.raises(BadSources, match="no such camera"):
        sources.camera("studio-3")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[sites.x]\na = 1", "'sites' is not a setting; did you mean site?"),
        ("site = 3", 'site is not a table; write [site."example.com"]'),
        ('[site."site.test"]\ncookie = "x"', "did you mean cookies?"),
        ('[site."https://site.test/"]', "name the host alone"),
        ('[site."site.test"]\ncookies = "none.txt"', "none.txt can't be read: No such file"),
        (
            '[site."site.test"]\ncookies = "open.txt"',
            "can be read or written to by others: chmod 6",
        ),
        ('[site."site.test"]\ncookies = "json.txt"', "JSON; export the cookies in Netscape's"),
        ('[site."site.test"]\ncookies = "odd.txt"', "line 1 has 2 fields and not 7"),
        ('[site."site.test"]\ncookies = "plugins"', "can't be read: Is a directory"),
        ('[site."site.test"]\ncookies = "binary.txt"', "is not text"),
        ('[site."site.test"]\ncookies = "blank.txt"', "holds no cookie"),
        ('[all]\nproxy = "ftp://x"', "begins with http://, https:// or socks5://"),
        ('[all]\nproxy = "http://name:pa/SECRET@x:1"', "not a URL; write it as"),
        ('[all]\nheaders = { X = "SECRET" }', "headers belong to a site"),
        (
            '[site."site.test"]\nheaders = { Cookie = "SECRET" }',
            "cookies belong into a cookies file",
        ),
        ('[site."site.test"]\nheaders = { "X Y" = "SECRET" }', "can't be sent as a header"),
        ('[site."site.test"]\nuser_agent = "a\\nb"', "not a text that HTTP can send"),
        ('[site."site.test"]\nnetrc = "open.txt"', "chmod 600"),
        ('[site."site.test"]\nextractor_arguments = ["a"]', "write them as extractor_arguments."),
        ('[site."site.test"]\nplayer_clients = [1]', "write a text, or a list"),
        ('[site."site.test"]\nplugins = "empty"', "holds no plugin"),
        ('[site."site.test"]\nplugins = "cookies.txt"', "is not a folder"),
        ('[site."site.test"]\nimpersonate = "Chrome!"', "name a browser as yt-dlp does"),
        ('[site."site.test"]\nproxy = { block = "x" }', "write a text, or { secret = "),
        ("[camera.Studio]\nurl = 'rtsp://x'", "name it in lower-case letters"),
        ("[camera.studio]", 'write its address as url = "rtsp://..."'),
        ("[camera.studio]\nurl = 'file:///etc/passwd'", "give one that begins with http://"),
        ("[camera.studio]\nurl = 'rtsp://a:SECRET[@x'", "not a URL; encode"),
        ("[site.'site.test']\nproxy = ", "not TOML: Invalid value (at "),
    ],
)
def test_each_error_is_one_line_without_secrets(
    write, tmp_path: Path, text: str, says: str
) -> None:
    private(tmp_path / "json.txt", '[{"name": "SECRET"}]')
    private(tmp_path / "odd.txt", "name\tSECRET\n")
    private(tmp_path / "blank.txt", "# Netscape HTTP Cookie File\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "binary.txt").chmod(0o600)
    (tmp_path / "open.txt").write_text(COOKIE)
    (tmp_path / "open.txt").chmod(0o644)
    sources = write(text)
    (mistake,) = sources.mistakes
    assert says in mistake
    assert mistake.startswith(f"{tmp_path}/sources.toml: ")
    assert "\n" not in mistake
    assert "SECRET" not in mistake
    if text.startswith(("[site.", "[all")) and "https:" not in text:
        with pytest.raises(BadSources) as caught:
            sources.access("https://site.test/live")
        assert "SECRET" not in str(caught.value)
    if not text.startswith("[all"):
        assert sources.access("https://other.example/live").site == ""


def test_a_file_readable_by_others_stops_all_shows(write, tmp_path: Path) -> None:
    write("[all]")
    (tmp_path / "sources.toml").chmod(0o640)
    sources = Sources.read(tmp_path / "sources.toml")
    assert "chmod 600" in sources.mistakes[0]
    with pytest.raises(BadSources, match="chmod 600"):
        sources.access("https://other.example/")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(write, tmp_path: Path) -> None:
    os.chown(tmp_path / "cookies.txt", 12345, -1)
    sources = write('[site."site.test"]\ncookies = "cookies.txt"')
    assert "belongs to another user (number 12345)" in sources.mistakes[0]


def test_a_secret_without_a_server_is_an_error_when_used(write) -> None:
    sources = write('[site."site.test"]\nproxy = { secret = "way-out" }')
    assert sources.mistakes == ()
    with pytest.raises(BadSources, match="the secret 'way-out' is read from a Prefect server"):
        sources.access("https://site.test/")


@pytest.mark.skipif(find_spec("curl_cffi") is not None, reason="curl_cffi is installed")
def test_impersonation_that_is_not_installed_is_one_line(write, tmp_path: Path) -> None:
    sources = write('[site."site.test"]\nimpersonate = "chrome"')
    [mistake] = sources.mistakes
    assert mistake.endswith("it needs curl_cffi: pip install 'showmood[impersonate]'")
    assert "\n" not in mistake
