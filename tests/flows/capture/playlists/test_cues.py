"""Advertisements as packagers and sites write them into playlists."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows.capture.hls.ads import Ads
from flows.capture.playlists.playlist import Entry, Playlist, parse_playlist

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BASE = "https://tv.example/live.m3u8"
OUT = "/DAgAAAAAAAAAP/wDwUAAAAAf//+AAV+QAAAAAAAAAAAAAA="  # splice_insert, out for 4 s
IN = "/DAbAAAAAAAAAP/wCgUAAAAAf18AAAAAAAAAAAAA"  # splice_insert, in
N = 8


def listed(tags: dict[int, str], *, hosts: dict[int, str] | None = None) -> Playlist:
    """Return a playlist of segments of 2 s; tags: before these segments."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:0"]
    for n in range(N):
        date = (NOON + timedelta(seconds=2 * n)).isoformat()
        lines += [tags.get(n, ""), f"#EXT-X-PROGRAM-DATE-TIME:{date}", "#EXTINF:2.0,"]
        lines.append(f"{(hosts or {}).get(n, '')}{n}.ts")
    return parse_playlist("\n".join(lines), BASE)


def ads_of(playlist: Playlist, *, first: int = 0) -> list[int]:
    """Return which are advertisements, of those from the first one on."""
    ads = Ads()
    ads.begin(playlist.entries[:first], playlist, url=BASE)
    return [n for n in range(first, N) if ads.of(playlist.entries[n], playlist)]


def ranged(first: int, end: int | None = None, *, more: str = "", name: str = "a") -> str:
    date = (NOON + timedelta(seconds=2 * first)).isoformat()
    length = f",DURATION={2 * (end - first)}" if end is not None else ""
    return f'#EXT-X-DATERANGE:ID="{name}",START-DATE="{date}"{length}{more}'


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param({2: f"#EXT-OATCLS-SCTE35:{OUT}"}, id="message, of length"),
        pytest.param(
            {2: f"#EXT-X-SPLICEPOINT-SCTE35:{OUT}", 4: f"#EXT-X-SPLICEPOINT-SCTE35:{IN}"},
            id="messages",
        ),
        pytest.param({2: f'#EXT-X-SCTE35:ID="1",CUE="{OUT}"'}, id="message in an attribute"),
        pytest.param({2: '#EXT-X-CUE:TYPE="SpliceOut",ID="1",DURATION=4'}, id="SpliceOut"),
        pytest.param(
            {2: "#EXT-X-CUE-SPAN:x", 3: "#EXT-X-CUE-SPAN:x", 4: '#EXT-X-CUE:TYPE="SpliceIn"'},
            id="span",
        ),
        pytest.param(
            {2: f"#EXT-X-CUE-OUT:4\n#EXT-OATCLS-SCTE35:{IN}"}, id="a cue counts over a message"
        ),
        pytest.param({0: ranged(2, 4, name="stitched-ad-1")}, id="by its ID"),
        pytest.param({0: ranged(2, 4, more=",X-TV-TWITCH-AD-URL=x")}, id="by an attribute"),
        pytest.param({0: ranged(2, 4, more=',CLASS="com.x.adbreak"')}, id="adbreak"),
        pytest.param({0: ranged(2, 4, more=',CLASS="AdBreak"')}, id="AdBreak"),
        pytest.param(
            {0: ranged(2, more=",SCTE35-OUT=0x1"), 4: ranged(4, more=",SCTE35-IN=0x1", name="b")},
            id="ended by another range",
        ),
        pytest.param(
            {
                0: ranged(2, more=',CLASS="ad",END-ON-NEXT=YES'),
                4: ranged(4, more=',CLASS="ad",DURATION=0', name="b"),
            },
            id="ended by the next of its class",
        ),
    ],
)
def test_advertisements_are_recognised(tags: dict[int, str]) -> None:
    assert ads_of(listed(tags)) == [2, 3]


@pytest.mark.parametrize(
    "more", [',CLASS="radio"', ',CLASS="com.apple.hls.interstitial"', ',CLASS="com.x.roadmap"']
)
def test_other_ranges_are_no_advertisements(more: str) -> None:
    playlist = listed({0: ranged(2, 4, more=more)})
    assert not playlist.breaks
    assert ads_of(playlist) == []


def test_a_break_that_began_before_the_first_recorded_segment_counts() -> None:
    tags = {1: "#EXT-X-CUE-OUT:60", 6: "#EXT-X-CUE-IN"}
    assert ads_of(listed(tags), first=4) == [4, 5]


@pytest.mark.parametrize(
    ("away", "found"), [(range(3), []), (range(3, 6), [5]), (range(5), [])], ids=str
)
def test_the_playlist_s_own_host_is_not_another(away: range, found: list[int]) -> None:
    hosts = dict.fromkeys(away, "https://ads.example/")
    tags = {away.start: "#EXT-X-DISCONTINUITY", away.stop: "#EXT-X-DISCONTINUITY"}
    assert ads_of(listed(tags, hosts=hosts), first=5) == found


def test_hosts_mean_nothing_where_a_segment_has_several() -> None:
    hosts = dict.fromkeys((5, 6), "https://cdn2.example/")
    playlist = listed({5: "#EXT-X-DISCONTINUITY"}, hosts=hosts)
    assert ads_of(playlist, first=4) == [5, 6]
    ads = Ads()
    ads.begin(playlist.entries[:4], playlist, url=BASE)
    ads.hosts_vary()
    assert not any(ads.of(each, playlist) for each in playlist.entries[4:])


def test_a_playlist_of_hours_is_read_in_one_pass() -> None:
    class Counted(tuple[Entry, ...]):
        n_read = 0

        def __iter__(self) -> Iterator[Entry]:
            Counted.n_read += 1
            return super().__iter__()

    lines = [line for n in range(500) for line in ("#EXTINF:2,", f"{n}.ts")]
    playlist = parse_playlist("\n".join(["#EXTM3U", *lines]), "http://a.test/live.m3u8")
    playlist = replace(playlist, entries=Counted(playlist.entries))
    ads = Ads()
    ads.begin(playlist.entries[:-1], playlist, url="http://a.test/live.m3u8")
    assert ads.of(playlist.entries[-1], playlist) is None
    assert Counted.n_read <= 4
