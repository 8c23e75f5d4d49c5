"""Pages and streams with requirements: headers, cookies, proxies, plugins."""

import socket
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from flows.capture.headers import Headers, SiteHeaders
from flows.capture.net.address import AddressPolicy
from flows.capture.net.cookies import read_cookies
from flows.capture.net.fetch import Fetcher
from flows.capture.net.upstream import Upstream
from flows.capture.processes import find_ffmpeg
from flows.capture.segment import (
    CaptureError,
    NotWatchable,
    Segment,
    SourceUnreachable,
    UnsafeURL,
)
from flows.capture.source.operator.access import Access
from flows.capture.source.resolve import resolve
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture

PAGE = b'<html><body><video src="/master.m3u8?a=1"></video></body></html>'
VARIANT = "#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=320x180\n"


def record(stream: Stream, policy: AddressPolicy, path: Path, *, n: int = 2, **options) -> Capture:
    values = {"directory": path, "channel": "demo", "broadcast": 1, "segment_s": 0.5}
    capture = Capture(stream.page_url, policy=policy, stream=stream, **(values | options))
    with capture:
        for _ in range(n):
            assert isinstance(capture.get(60.0), Segment), capture.last_error
    return capture


def found_at(site, **more) -> Stream:
    """What yt-dlp finds at a playlist, without the second it takes."""
    return Stream(
        page_url=f"{site.base}/page",
        url=f"{site.base}/live.m3u8",
        protocol="hls",
        live=True,
        live_status=None,
        source_id="live",
        title="live",
        **more,
    )


# -- cookies


@pytest.mark.parametrize("engine", ["hls", "ffmpeg"])
def test_cookies_of_page_and_master_go_with_playlist_and_segments(
    site, airing, policy: AddressPolicy, tmp_path: Path, engine: str
) -> None:
    def answer(asked):
        cookies = asked.headers.get("cookie", "")
        if asked.path == "/":
            return PAGE, (("Set-Cookie", "page=1; Path=/"), ("Content-Type", "text/html"))
        if asked.path.startswith("/master"):
            if "page=1" not in cookies:
                return 403
            return f"#EXTM3U\n{VARIANT}v/live.m3u8".encode(), (("Set-Cookie", "master=1"),)
        return airing(asked.path) if {"page=1", "master=1"} <= set(cookies.split("; ")) else 403

    site.answer = answer
    stream = resolve(f"{site.base}/", policy=policy)
    assert stream.master_url.endswith("/master.m3u8?a=1")
    assert stream.height_px == 180
    record(stream, policy, tmp_path / "rec", engine=engine)
    assert "page=1" not in repr(stream)


def test_the_operators_cookies_go_only_to_their_hosts_and_are_updated(
    site, policy: AddressPolicy, tmp_path: Path
) -> None:
    def line(domain: str, name: str, value: str) -> str:
        return f"{domain}\tFALSE\t/\tFALSE\t1999999999\t{name}\t{value}\n"

    before = line("127.0.0.1", "login", "OLD") + line("elsewhere.test", "login", "OTHER")
    file = tmp_path / "cookies.txt"
    file.write_text(before)
    file.chmod(0o600)

    def answer(asked):
        if asked.headers.get("cookie") != "login=OLD":
            return 403
        kept = "login=NEW; Max-Age=1000000; Path=/"
        return PAGE, (("Set-Cookie", kept), ("Content-Type", "text/html"))

    site.answer = answer
    access = Access(cookies=before, cookies_file=file)
    with pytest.raises(CaptureError):
        resolve(f"{site.base}/", policy=policy, access=access)
    assert site.asked[0].headers["cookie"] == "login=OLD"
    after = {(c.domain, c.value) for c in read_cookies(file.read_text())}
    assert after == {("127.0.0.1", "NEW"), ("elsewhere.test", "OTHER")}
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["cookies.txt"]


# -- headers


def test_a_sites_headers_are_not_forwarded_by_redirects(site, policy: AddressPolicy) -> None:
    def answer(asked):
        if asked.headers["host"].startswith("127.0.0.1") and asked.path == "/page":
            return b"", (("Location", f"http://localhost:{site.port}/elsewhere"),)
        return b"<html></html>", (("Content-Type", "text/html"),)

    site.answer = answer
    headers = (SiteHeaders(site="127.0.0.1", pairs=(("X-Key", "SECRET"),)),)
    access = Access(headers=headers, user_agent="Own/1")
    with pytest.raises(CaptureError):
        resolve(f"{site.base}/page", policy=policy, access=access)
    first = site.asked[0]
    assert (first.headers["x-key"], first.headers["user-agent"]) == ("SECRET", "Own/1")
    others = [each for each in site.asked if each.path != "/page"]
    assert others
    assert all("x-key" not in each.headers for each in others)
    site.asked.clear()
    stream = found_at(site, site_headers=headers)
    with Fetcher(policy, headers=stream.sent) as fetcher:
        fetcher.get(f"{site.base}/page", max_bytes=100)
    assert [each.headers.get("x-key") for each in site.asked] == ["SECRET", None]


def test_headers_of_a_page_at_https_are_not_sent_in_clear() -> None:
    headers = (SiteHeaders(site="a.test", pairs=(("X-Key", "SECRET"),), only_https=True),)
    made = Headers(of_sites=headers)
    assert made.of("https://b.a.test/1.ts") == {"X-Key": "SECRET"}
    assert made.of("http://b.a.test/1.ts") == {}


# -- plugins


PLUGIN = """
from yt_dlp.extractor.common import InfoExtractor
class OursIE(InfoExtractor):
    _VALID_URL = r"http://127\\.0\\.0\\.1:\\d+/ours"
    def _real_extract(self, url):
        told = self._configuration_arg("word", ie_key="ours")
        base = url.rpartition("/")[0]
        form = {"url": base + "/live.m3u8", "protocol": "m3u8_native", "ext": "mp4", "fps": 50}
        return {"id": "ours", "title": told[0], "is_live": True, "formats": [form]}
"""


def test_plugins_of_a_folder_are_used_and_a_failing_one_is_a_one_line_error(
    site, policy: AddressPolicy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, text in (("good", PLUGIN), ("bad", "raise ValueError('out of order')")):
        folder = tmp_path / name / "yt_dlp_plugins" / "extractor"
        folder.mkdir(parents=True)
        (folder / f"{name}.py").write_text(text)
    access = Access(
        plugins=(tmp_path,), extractor_arguments={"ours": {"word": ("from the operator",)}}
    )
    stream = resolve(f"{site.base}/ours", policy=policy, access=access)
    assert (stream.title, stream.fps) == ("from the operator", 50)
    (line,) = [each for each in caplog.messages if "plugin" in each]
    assert "bad" in line
    assert "ValueError: out of order" in line
    with pytest.raises(CaptureError):
        resolve(f"{site.base}/ours", policy=policy)  # no other host gets them


def test_errors_of_extractors_do_not_show_the_operators_secrets(
    site, policy: AddressPolicy, tmp_path: Path
) -> None:
    folder = tmp_path / "one" / "yt_dlp_plugins" / "extractor"
    folder.mkdir(parents=True)
    showing = (
        "raise yt_dlp.utils.ExtractorError('wrong: ' + told[0] + str(self._downloader.cookiejar))"
    )
    text = "import yt_dlp\n" + PLUGIN.replace("base = ", f"{showing}; base = ")
    (folder / "ours.py").write_text(text)
    access = Access(
        plugins=(tmp_path,),
        extractor_arguments={"ours": {"word": ("web+TOKEN-0123456789",)}},
        cookies="127.0.0.1\tFALSE\t/\tFALSE\t0\tlogin\tCOOKIE-0123456789\n",
    )
    with pytest.raises(CaptureError, match="wrong: web") as caught:
        resolve(f"{site.base}/ours", policy=policy, access=access)
    assert "login=" in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_children_that_a_plugin_leaves_are_not_waited_for(
    site, policy: AddressPolicy, tmp_path: Path
) -> None:
    leaving = "import os, time\nif os.fork() == 0:\n    time.sleep(300)\n    os._exit(0)\n"
    folder = tmp_path / "one" / "yt_dlp_plugins" / "extractor"
    folder.mkdir(parents=True)
    (folder / "ours.py").write_text(leaving + PLUGIN)
    access = Access(
        plugins=(tmp_path,), extractor_arguments={"ours": {"word": ("from the operator",)}}
    )
    site.answer = lambda asked: 404
    assert resolve(f"{site.base}/ours", policy=policy, access=access).title == "from the operator"


# -- proxies


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
def test_page_playlist_and_segments_are_fetched_through_the_operators_proxy(
    site, airing, proxy, tmp_path: Path, scheme: str
) -> None:
    def answer(asked):
        path = asked.path
        return (
            (PAGE, (("Content-Type", "text/html"),))
            if path == "/"
            else (f"#EXTM3U\n{VARIANT}live.m3u8".encode() if "master" in path else airing(path))
        )

    site.answer = answer
    if scheme == "https":
        proxy.speak_tls()
    upstream = Upstream.of(f"{scheme}://name:word@127.0.0.1:{proxy.server_address[1]}")
    # Nobody but the proxy knows the name, and nothing of this machine may be fetched.
    policy = AddressPolicy(upstream=upstream)
    stream = resolve("http://show.test/", policy=policy)
    record(stream, policy, tmp_path / "rec", n=1)
    assert all("show.test" in each for each in proxy.seen)
    assert len(proxy.seen) >= 3 if scheme == "socks5" else len(proxy.seen) >= 4
    with Fetcher(policy) as fetcher, pytest.raises(UnsafeURL, match="internal"):
        fetcher.get("http://10.0.0.1/", max_bytes=10)
    with Fetcher(policy) as fetcher, pytest.raises(UnsafeURL, match="internal"):
        fetcher.get("http://localhost/", max_bytes=10)


@pytest.mark.parametrize("page", ["http://show.test/", "https://show.test/"])
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_refusing_or_unreachable_proxy_is_a_one_line_error(proxy, scheme: str, page: str) -> None:
    port = proxy.server_address[1]
    policy = AddressPolicy(upstream=Upstream.of(f"{scheme}://name:WRONG@127.0.0.1:{port}"))
    with Fetcher(policy) as fetcher, pytest.raises(SourceUnreachable) as caught:
        fetcher.get(page, max_bytes=10)
    assert "needs another user and password" in str(caught.value)
    assert "WRONG" not in str(caught.value)
    if scheme == "http":
        with pytest.raises(SourceUnreachable, match="needs another user and password"):
            resolve(page, policy=policy)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    policy = AddressPolicy(upstream=Upstream.of(f"{scheme}://127.0.0.1:{free}"))
    with Fetcher(policy) as fetcher, pytest.raises(SourceUnreachable) as caught:
        fetcher.get(page, max_bytes=10)
    assert f"the proxy {scheme}://127.0.0.1:{free} of sources.toml" in str(caught.value)
    if scheme == "http":
        with pytest.raises(SourceUnreachable, match=r"of sources\.toml: .*refused"):
            resolve(page, policy=policy)


def test_the_environments_proxy_is_used_where_configured() -> None:
    environment = {"HTTPS_PROXY": "http://a:b@proxy.test:8080", "NO_PROXY": "own.test,.inner"}
    upstream = Upstream.of("environment", environment)
    assert upstream is not None
    assert (str(upstream), upstream.user) == ("http://proxy.test:8080", "a")
    assert upstream.carries("show.test")
    assert not upstream.carries("own.test")
    assert not upstream.carries("a.inner")
    assert Upstream.of("environment", {"A": "b", "HTTPS_PROXY": " "}) is None
    assert "of HTTPS_PROXY: no" in str(upstream.unreachable("no"))


def test_no_proxy_names_ports_and_networks() -> None:
    environment = {"all_proxy": "proxy.test:1", "no_proxy": "own.test:8080, 10.0.0.0/8,odd/9"}
    upstream = Upstream.of("environment", environment)
    assert upstream is not None
    assert upstream.carries("own.test", 443)
    assert not upstream.carries("own.test", 8080)
    assert upstream.carries("11.0.0.1", 80)
    assert not upstream.carries("10.2.3.4", 80)


def test_a_wrong_proxy_of_the_environment_names_its_variable() -> None:
    with pytest.raises(ValueError, match=r"^HTTP_PROXY of the environment: give") as caught:
        Upstream.of("environment", {"http_proxy": "socks4://a:SECRET@b"})
    assert "SECRET" not in str(caught.value)


# -- what has moved, or wants a query


def test_an_expired_session_playlist_is_immediately_found_again_by_its_master(
    site, airing, policy: AddressPolicy, tmp_path: Path
) -> None:
    session = ["one"]

    def answer(asked):
        if asked.path.startswith("/master"):
            return f"#EXTM3U\n{VARIANT}{session[0]}/live.m3u8".encode()
        return airing(asked.path) if asked.path.startswith(f"/{session[0]}/") else 404

    site.answer = answer
    found = found_at(site, master_url=f"{site.base}/master.m3u8")
    stream = replace(found, url=f"{site.base}/one/live.m3u8")
    capture = Capture(
        stream.page_url,
        directory=tmp_path / "rec",
        channel="demo",
        broadcast=1,
        policy=policy,
        stream=stream,
    )
    events = []
    with capture:
        for name in ("two", "three"):
            events += [capture.get(60.0), capture.get(60.0)]
            session[0] = name
        events += [capture.get(60.0) for _ in range(3)]
    assert all(isinstance(each, Segment) for each in events), events
    assert capture.restarts == 0
    for before, after in pairwise(events):
        assert abs((after.start - before.end).total_seconds()) < 0.05


@pytest.mark.parametrize("said", [True, False], ids=["by-yt-dlp", "by-the-playlist"])
def test_segments_get_the_query_that_they_need(
    site, airing, policy: AddressPolicy, tmp_path: Path, said: bool
) -> None:
    site.answer = lambda asked: airing(asked.path) if "token=SECRET" in asked.path else 403
    query = "?token=SECRET"
    stream = found_at(site, segment_query="token=SECRET" if said else "")
    capture = record(replace(stream, url=stream.url + query), policy, tmp_path / "rec")
    assert "SECRET" not in str(capture.last_error)
    refused = [each for each in site.asked if "token" not in each.path]
    assert len(refused) == (0 if said else 1)


# -- what can't be watched


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('METHOD=SAMPLE-AES,URI="key"', "encrypted by SAMPLE-AES, and cannot be watched"),
        (
            'METHOD=SAMPLE-AES,URI="skd://x",KEYFORMAT="com.apple.streamingkeydelivery"',
            "encrypted by FairPlay",
        ),
        (
            'METHOD=SAMPLE-AES-CTR,URI="data:x",'
            'KEYFORMAT="urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"',
            "encrypted by Widevine",
        ),
    ],
)
def test_drm_ends_the_show_immediately(
    site, airing, policy: AddressPolicy, tmp_path: Path, keys: str, says: str
) -> None:
    site.answer = lambda asked: airing(asked.path).replace(
        b"#EXTINF", f"#EXT-X-KEY:{keys}\n#EXTINF".encode(), 1
    )
    with pytest.raises(NotWatchable, match=says):
        list(
            Capture(
                "http://x.test/",
                directory=tmp_path / "rec",
                channel="demo",
                broadcast=1,
                policy=policy,
                stream=found_at(site),
            ).__enter__()
        )


def test_variants_with_only_audio_and_missing_ones_are_replaced(
    site,
    airing,
    pieces: Path,
    policy: AddressPolicy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sound = tmp_path / "sound.ts"
    source = pieces / "piece-00000.ts"
    command = [find_ffmpeg(), "-v", "error", "-i", str(source), "-vn", "-c", "copy", str(sound)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    def answer(asked):
        if "master" in asked.path:
            names = {"gone": 3_000_000, "sound": 2_000_000, "seen": 1_000_000}
            return (
                "#EXTM3U\n"
                + "".join(
                    f"#EXT-X-STREAM-INF:BANDWIDTH={rate}\n{name}/live.m3u8\n"
                    for name, rate in names.items()
                )
            ).encode()
        if asked.path.startswith("/gone/"):
            return 404
        if asked.path.startswith("/sound/") and asked.path.endswith(".ts"):
            return sound.read_bytes()
        return airing(asked.path)

    site.answer = answer
    stream = replace(found_at(site), url=f"{site.base}/master.m3u8")
    record(stream, policy, tmp_path / "rec", engine="hls")
    (tmp_path / "rec2").mkdir()
    site.answer = lambda asked: (
        sound.read_bytes() if asked.path.endswith(".ts") else airing(asked.path)
    )
    capture = Capture(
        "http://x.test/",
        directory=tmp_path / "rec2",
        channel="demo",
        broadcast=1,
        policy=policy,
        stream=found_at(site),
    )
    with capture, pytest.raises(NotWatchable, match="no picture in this stream, only sound"):
        list(capture)
    assert ".tmp" not in caplog.text
