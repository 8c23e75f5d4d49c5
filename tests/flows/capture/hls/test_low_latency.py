"""Low-latency playlists: parts are ignored, and blocking reload is used if offered."""

import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from benchmarks.capture.live_stream import live_stream
from flows.capture.hls.engine import HlsRun
from flows.capture.hls.pacing import Pacing
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.reload import blocking_reload_url, without_directives
from flows.capture.recorded.recording import Recording
from flows.capture.segment import Segment

N = 6


class LowLatency:
    """A playlist with parts. A segment is added by blocking reload, or with each answer."""

    def __init__(self, site, origin, *, keeps: bool = True, refuses: int = 0) -> None:
        self.origin, self.site = origin, site
        self.n, self.keeps, self.refuses = 2, keeps, refuses
        site.answer = self.answer

    def answer(self, asked):
        path, query = urlsplit(asked.path).path, parse_qs(urlsplit(asked.path).query)
        if query.get("token") != ["t"]:
            return 403
        if path.endswith(".ts"):
            return self.origin.bytes_of(int(path[9:-3]))
        if "_HLS_msn" in query and self.refuses:
            return self.refuses
        if "_HLS_msn" not in query or self.keeps:
            self.n = min(self.n + 1, N)
        return self.playlist()

    def playlist(self) -> bytes:
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXT-X-VERSION:9"]
        lines += ["#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.5"]
        lines += ["#EXT-X-PART-INF:PART-TARGET=0.2", "#EXT-X-MEDIA-SEQUENCE:0"]
        for n in range(self.n):
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{self.origin.start_of(n).isoformat()}")
            lines += [f'#EXT-X-PART:DURATION=0.25,URI="part-{n}.{k}.ts"' for k in range(2)]
            lines += ["#EXTINF:0.5,", f"segment-{n:06d}.ts"]
        lines.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="part-{self.n}.0.ts"')
        return "\n".join(lines).encode()


def record(site, policy: AddressPolicy, directory: Path) -> list[Segment]:
    url = f"{site.base}/live.m3u8?token=t"
    found: list[Segment] = []
    with Fetcher(policy) as fetcher:
        recording = Recording(directory, channel="demo", broadcast=1)
        run = HlsRun(live_stream(url, url), recording, fetcher, ended_after_s=0.0)
        for _ in range(20 * N):
            run._pacing.due_at = 0.0
            found += run.poll()
            if len(found) >= N - 2:
                break
        run.finish()
    assert all(isinstance(each, Segment) for each in found), found
    assert len(found) == N - 2, run.error_text
    assert all(a.end == b.start for a, b in pairwise(found))
    return found


@pytest.fixture
def asked(site):
    """The queries of the playlist's requests, in order."""

    def read() -> list[str]:
        paths = [urlsplit(each.path) for each in site.asked]
        assert not any("_HLS" in each.query for each in paths if each.path.endswith(".ts"))
        assert not any("part-" in each.path for each in paths)
        return [each.query for each in paths if each.path.endswith("m3u8")]

    return read


def test_a_blocking_reload_is_awaited_and_its_query_is_not_in_segment_addresses(
    site, origin, asked, policy: AddressPolicy, tmp_path: Path
) -> None:
    LowLatency(site, origin)
    record(site, policy, tmp_path / "rec")
    wanted = [re.findall(r"_HLS_msn=(\d+)", query) for query in asked()]
    assert wanted == [[], ["3"], ["4"], ["5"]]


@pytest.mark.parametrize("refuses", [0, 400, 503], ids=["answers at once", "400", "503"])
def test_a_server_that_ignores_blocking_reload_is_polled_normally(
    refuses: int, site, origin, asked, policy: AddressPolicy, tmp_path: Path
) -> None:
    LowLatency(site, origin, keeps=False, refuses=refuses)
    record(site, policy, tmp_path / "rec")
    assert sum("_HLS_msn" in query for query in asked()) == 2


def test_pacing_of_blocking_reload_requests_shortly_before_the_next_segment() -> None:
    pacing = Pacing()
    pacing.target_s = pacing.last_s = 2.0
    pacing.unblocked(1000.0)
    assert 1001.8 <= pacing.due_at <= 1002.0


def test_directives_are_only_in_playlist_requests() -> None:
    url = blocking_reload_url("http://a.test/x.m3u8?a=1&_HLS_msn=3&_HLS_part=2", 7)
    assert url == "http://a.test/x.m3u8?a=1&_HLS_msn=7"
    assert blocking_reload_url("http://a.test/x.m3u8", 7) == "http://a.test/x.m3u8?_HLS_msn=7"
    assert without_directives("_HLS_msn=7&token=t&_HLS_skip=YES") == "token=t"
