"""Requests to a source at the start of a show, and errors before a show."""

import re
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.capture.live_stream import live_stream
from flows.capture.hls.engine import HlsRun
from flows.capture.hls.pacing import Pacing
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.recorded.recording import Recording
from flows.capture.segment import Segment, SourceUnreachable
from flows.capture.source.current_stream import CurrentStream
from flows.capture.source.resolve import resolve
from flows.capture.source.waiting import wait_for_show
from flows.capture.stream import Loaded, Stream
from flows.capture.supervisor.capture import Capture
from flows.capture.supervisor.engines import Engines
from flows.live.source_check import check
from flows.live.way_to_source import WayToSource
from flows.settings import Settings
from flows.show import make_show

PAGE = b'<html><body><video src="/master.m3u8?a=1"></video></body></html>'
MASTER = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=320x180\nlive.m3u8"


@pytest.fixture
def slow(site, airing):
    """A site whose playlist has a Retry-After of a minute."""

    def answer(asked):
        path = asked.path.partition("?")[0]
        if path == "/":
            return PAGE, (("Content-Type", "text/html"),)
        if path == "/master.m3u8":
            return MASTER
        body = airing(path)
        if path == "/long.m3u8":
            body += b"\n".join(b"# %d of what nobody reads" % n for n in range(10_000))
        return re.sub(rb"(TARGETDURATION:)\d+", rb"\g<1>60", body) if "m3u8" in path else body

    site.answer = answer
    return site


@pytest.mark.parametrize("page", ["/live.m3u8", "/master.m3u8", "/", "/long.m3u8"], ids=str)
def test_each_playlist_is_fetched_once(slow, page: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, allow_networks="127.0.0.0/8", _env_file=None)
    show = make_show(url=slow.base + page)
    way = WayToSource.of(settings, show.url)
    stream = way.find(show)
    capture = Capture(
        show.url,
        policy=way.policy,
        stream=stream,
        directory=tmp_path / "rec",
        channel="demo",
        broadcast=1,
    )
    with capture:
        assert isinstance(capture.get(60.0), Segment), capture.last_error
    asked = Counter(each.path for each in slow.asked if "m3u8" in each.path)
    assert asked == dict.fromkeys(asked, 1)
    assert "/live.m3u8" in asked or page in asked


def test_the_recorder_respects_a_servers_retry_after(
    site, origin, policy: AddressPolicy, tmp_path: Path
) -> None:
    site.answer = lambda asked: (b"", (("Retry-After", "40"),), 429)
    settings = Settings(home=tmp_path, allow_networks="127.0.0.0/8", _env_file=None)
    url = f"{site.base}/live.m3u8"
    show = make_show(url=url)
    begin = time.monotonic()
    stream = WayToSource.of(settings, url)._require_begun(live_stream(url, url), show)
    recording, pacing = Recording(tmp_path / "rec", channel="demo", broadcast=1), Pacing()
    engines = Engines("ffmpeg", policy=policy, ffmpeg_path=None, segment_s=2.0)
    with Fetcher(policy) as fetcher:
        run = HlsRun(stream, recording, fetcher, ended_after_s=0.0, pacing=pacing)
        run.poll()
        run.finish()
        with pytest.raises(SourceUnreachable, match="next request in") as caught:
            engines.start(stream, recording, fetcher, ended_after_s=0.0)
    assert len(site.asked) == 1
    assert pacing.due_at >= begin + 40
    assert 0 < caught.value.backoff_s <= 40


def test_a_pages_retry_after_is_respected(site, policy: AddressPolicy) -> None:
    site.answer = lambda asked: (b"", (("Retry-After", "40"),), 503)
    current = CurrentStream(
        lambda: resolve(f"{site.base}/show", policy=policy),
        stream=None,
        ended_after_s=0.0,
        away_s=0.0,
    )
    asked = 0
    for _ in range(2):
        with pytest.raises(SourceUnreachable, match="503") as caught:
            current.find(recorded=False, note=lambda error: None)
        asked = asked or len(site.asked)
        assert caught.value.retry_after_s == 40
    assert len(site.asked) == asked
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_for_show(
            f"{site.base}/show",
            lambda: current.find(recorded=False, note=lambda error: None),
            give_up_after=timedelta(minutes=1),
            on_waiting=lambda known: None,
            pause=pause,
        )
    assert pauses == [40.0]
    with pytest.raises(SourceUnreachable):  # later than the end of the wait
        wait_for_show(
            f"{site.base}/show",
            lambda: current.find(recorded=False, note=lambda error: None),
            give_up_after=timedelta(seconds=30),
            on_waiting=lambda known: None,
            pause=pause,
        )


def test_pacing_counts_from_the_answer_that_was_handed_on(
    slow, origin, policy: AddressPolicy, tmp_path: Path
) -> None:
    url = f"{slow.base}/live.m3u8"
    text = re.sub(r"(TARGETDURATION:)\d+", r"\g<1>6", origin.playlist())

    def begin(at: float) -> tuple[int, float]:
        """Return the number of requests for the playlist, and the time of the next one."""
        slow.asked.clear()
        stream = Stream(
            page_url=url,
            url=url,
            protocol="hls",
            live=True,
            live_status=None,
            source_id="live",
            title="live",
            loaded=Loaded(url=url, found_at=url, text=text, at=at),
        )
        recording = Recording(tmp_path / str(at), channel="demo", broadcast=1)
        pacing = Pacing()
        with Fetcher(policy) as fetcher:
            run = HlsRun(stream, recording, fetcher, ended_after_s=0.0, pacing=pacing)
            run.poll()
            run.finish()
        return sum("m3u8" in each.path for each in slow.asked), pacing.due_at

    at = time.monotonic() - 1.0
    n, due_at = begin(at)
    assert n == 0
    assert at + 0.9 * pacing_s(6.0) <= due_at <= at + pacing_s(6.0)
    n, due_at = begin(time.monotonic() - 6.5)  # now it may be requested again
    assert n == 1
    assert due_at > time.monotonic()


def pacing_s(target_s: float) -> float:
    pacing = Pacing()
    pacing.target_s, pacing.last_s = target_s, 0.5
    return pacing.pace_s


def test_sources_check_shows_what_would_be_recorded_and_no_secret(
    site, airing, proxy, tmp_path: Path
) -> None:
    site.answer = lambda asked: airing(asked.path)
    port = proxy.server_address[1]
    cookie = "show.test\tFALSE\t/\tFALSE\t1999999999\tlogin\tTOKEN\n"
    for name, text in {
        "cookies.txt": f"# Netscape HTTP Cookie File\n{cookie}",
        "sources.toml": f"""
            [site."show.test"]
            cookies = "cookies.txt"
            proxy = "http://name:word@127.0.0.1:{port}"
            user_agent = "Own/1"
            headers = {{ X-Key = "SECRET" }}
            """,
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    settings = Settings(home=tmp_path, _env_file=None)
    said = dict(check(settings, make_show(url="http://show.test/live.m3u8")))
    known = {"protocol": "HLS", "live": "yes", "size": "320x180", "set for": "show.test"}
    assert known.items() <= said.items()
    assert said["cookies"].startswith("1 of ")
    assert said["proxy"] == f"http://127.0.0.1:{port}"
    assert said["segments"].startswith("0.5 s, ")
    assert said["headers"] == "X-Key"
    assert not any(secret in str(said) for secret in ("SECRET", "TOKEN", "word"))
    assert [each.headers.get("x-key") for each in site.asked] == ["SECRET"] * len(site.asked)
    assert not list(tmp_path.glob("recordings/*"))
