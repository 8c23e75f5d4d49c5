import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.capture.live_stream import live_stream
from flows.capture.segment import CaptureError
from flows.capture.source.current_stream import CurrentStream
from flows.capture.source.operator.sources import BadSources, Sources
from flows.capture.stream import Stream

COOKIE = ".site.test\tTRUE\t/\tTRUE\t1999999999\tname\tSECRET\n"


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def write(tmp_path: Path):
    private(tmp_path / "cookies.txt", COOKIE)
    (tmp_path / "plugins" / "one" / "yt_dlp_plugins").mkdir(parents=True)
    (tmp_path / "plugins" / "one" / ".#lock").symlink_to("nowhere")
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
    assert access.headers[0].only_https
    assert not sources.access("http://site.test/x", held.__getitem__).headers[0].only_https
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
        ('[site."https://site.test/"]', 'write [site."site.test"]'),
        ('[site."u:SECRET@site.test:443/live"]', 'write [site."site.test"]'),
        ('[site."*.Site.TEST."]', 'write [site."site.test"]'),
        ('[site.site.test]\nproxy = "SECRET"', '[site.site.test]: write [site."site.test"]'),
        ('[sites."site.test"]\na = 1', "'sites' is not a setting; did you mean site?"),
        ("[sites.site.test]\na = 1", "'sites' is not a setting; did you mean site?"),
        ('["site.test"]\na = 1', '[site.test] is no table; write [site."site.test"]'),
        ("[site.site.test]\n[site.'other.test']\nproxy = 'none'", 'write [site."site.test"]'),
        ("[al]", "'al' is not a setting; did you mean all?"),
        ('proxy = "http://SECRET"', "'proxy' is in no table; write it below [all] or"),
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
        ('[all]\nproxy = "off"', 'or "environment", or "none"'),
        ('[all]\nproxy = "http://name:pa/SECRET@x:1"', "not a URL; write it as"),
        ('[all]\nheaders = { X = "SECRET" }', "headers belong to a site"),
        (
            '[site."site.test"]\nheaders = { Cookie = "SECRET" }',
            "cookies belong into a cookies file",
        ),
        ('[site."site.test"]\nheaders = { "X Y" = "SECRET" }', "can't be sent as a header"),
        ('[site."site.test"]\nheaders = { X = "SECRET " }', "can't be sent as a header"),
        ('[site."site.test"]\nheaders = { Host = "SECRET" }', "Host is set for each request"),
        ('[site."site.test"]\nheaders = { X-A = "1", x-a = "SECRET" }', "x-a is there twice"),
        (
            '[site."site.test"]\nplayer_clients = "tv"\n'
            'extractor_arguments.youtube.player_client = "web"',
            "keep one",
        ),
        ('[site."site.test"]\ncookies = "euro.txt"', "line 1 has a character that can't be sent"),
        ('[site."site.test"]\ncookies = "~nobody.at.all/x"', "can't be read: No such file"),
        ('[site."site.test"]\nnetrc = "netrc.txt"', "netrc.txt: line 1 is not as netrc has it"),
        ('[site."site.test"]\nnetrc = "void.txt"', "void.txt names no machine"),
        (
            '[site."site.test"]\nplugins = "shared"',
            "code.py can be written to by others: chmod go-w",
        ),
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
        ("[camera.studio]\nurl = 'rtsp://a:SECRET@x/y z'", "a character that URLs can't have"),
        ("[camera.studio]\nurl = ''", "give one that begins with http://"),
        ("[site.'site.test']\nproxy = ", "not TOML: Invalid value (at "),
        (f"[site.'site.test']\na = {'[' * 3000}", "too many brackets in brackets"),
        (f"[site.'site.test']\na = {'9' * 5000}", "not TOML: Exceeds the limit"),
    ],
)
def test_each_error_is_one_line_without_secrets(
    write, tmp_path: Path, text: str, says: str
) -> None:
    private(tmp_path / "json.txt", '[{"name": "SECRET"}]')
    private(tmp_path / "odd.txt", "name\tSECRET\n")
    private(tmp_path / "blank.txt", "# Netscape HTTP Cookie File\n")
    private(tmp_path / "euro.txt", COOKIE.replace("SECRET", "SECRET\u20ac"))
    private(tmp_path / "netrc.txt", "machine site.test login a pass SECRET\n")
    private(tmp_path / "void.txt", "")
    (tmp_path / "shared" / "one" / "yt_dlp_plugins").mkdir(parents=True)
    private(tmp_path / "shared" / "one" / "yt_dlp_plugins" / "code.py", "").chmod(0o666)
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
    if not text.startswith(("[camera", "site = ", "[sites.x]")):
        with pytest.raises(BadSources) as caught:
            sources.access("https://site.test/live")
        assert "SECRET" not in str(caught.value)
    if not text.startswith(("[al", "proxy")):
        assert sources.access("https://other.example/live").site == ""


def test_a_file_readable_by_others_stops_all_shows(write, tmp_path: Path) -> None:
    write("[all]")
    (tmp_path / "sources.toml").chmod(0o640)
    sources = Sources.read(tmp_path / "sources.toml")
    assert "chmod 600" in sources.mistakes[0]
    with pytest.raises(BadSources, match="chmod 600"):
        sources.access("https://other.example/")


@pytest.mark.parametrize("name", ["sources.toml", "cookies.txt"])
def test_a_file_that_never_ends_is_not_waited_for(write, tmp_path: Path, name: str) -> None:
    write('[site."site.test"]\ncookies = "cookies.txt"')
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name, 0o600)
    sources = Sources.read(tmp_path / "sources.toml")
    [mistake] = sources.mistakes
    assert mistake.endswith(f"{tmp_path / name} can't be read: Is no regular file")
    with pytest.raises(BadSources, match="no regular file"):
        sources.access("https://site.test/")


def test_a_link_to_nothing_is_not_taken_for_no_settings(tmp_path: Path) -> None:
    (tmp_path / "sources.toml").symlink_to("sources.toml")
    sources = Sources.read(tmp_path / "sources.toml")
    with pytest.raises(BadSources, match="Too many levels of symbolic links"):
        sources.access("https://site.test/")


def test_sites_are_found_by_any_spelling_of_a_urls_host(write) -> None:
    sources = write(
        """
        [all]
        proxy = "http://proxy.test"
        [site."xn--tst-qla.test"]
        user_agent = "Own/1"
        proxy = "none"
        [site."2001:db8::1"]
        user_agent = "Six/6"
        """
    )
    assert sources.mistakes == ()
    access = sources.access("https://www.T\u00c4ST.test./")
    assert (access.user_agent, access.upstream) == ("Own/1", None)
    access = sources.access("https://[2001:DB8:0::1]:8443/")
    assert access.user_agent == "Six/6"
    assert access.upstream is not None


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
    access = sources.access("https://site.test/", lambda name: "http://proxy.test\n")
    assert str(access.upstream) == "http://proxy.test:3128"
    with pytest.raises(BadSources, match="the Secret block 'way-out': give a URL") as caught:
        sources.access("https://site.test/", lambda name: "ftp://a:SECRET@b")
    assert "SECRET" not in str(caught.value)


@pytest.mark.skipif(find_spec("curl_cffi") is not None, reason="curl_cffi is installed")
def test_impersonation_that_is_not_installed_is_one_line(write, tmp_path: Path) -> None:
    sources = write('[site."site.test"]\nimpersonate = "chrome"')
    [mistake] = sources.mistakes
    assert mistake.endswith("it needs curl_cffi: pip install 'showmood[impersonate]'")
    assert "\n" not in mistake


def test_a_mistake_made_during_a_show_does_not_stop_its_recording(write, tmp_path: Path) -> None:
    write('[site."site.test"]\nuser_agent = "Own/1"')
    known = live_stream("https://site.test/", "https://site.test/live.m3u8")

    def resolve() -> Stream:
        Sources.read(tmp_path / "sources.toml").access(known.page_url)
        return known

    current = CurrentStream(resolve, stream=None, ended_after_s=1.0, away_s=1.0)
    noted: list[CaptureError] = []
    assert current.find(recorded=False, note=noted.append) is known
    write('[site."site.test"]\nuser_agent = ')
    current.forget()
    assert current.find(recorded=True, note=noted.append) is known
    assert ["not TOML" in str(each) for each in noted] == [True]
    current.forget()
    with pytest.raises(BadSources):
        current.find(recorded=False, note=noted.append)
