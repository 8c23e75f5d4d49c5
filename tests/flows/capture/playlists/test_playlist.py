import time
from datetime import UTC, datetime, timedelta

import pytest

from flows.capture.playlists.playlist import MAX_PLAYLIST_BYTES, parse_playlist
from flows.capture.playlists.tags import attributes_of, parse_date
from flows.capture.segment import NoStream

BASE = "https://cdn.example/live/index.m3u8?token=1"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def media(*lines: str) -> str:
    return "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:7", *lines])


def test_a_date_is_continued_by_durations_until_the_next() -> None:
    text = media(
        "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:00.000Z",
        "#EXTINF:2.002,",
        "a.ts",
        "#EXTINF:1.998,title, with a comma",
        "b.ts",
        "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T13:00:05.5+01:00",
        "#EXTINF:2,",
        "c.ts",
    )
    found = parse_playlist(text, BASE)
    starts = [entry.date - NOON for entry in found.entries if entry.date]
    assert starts == [timedelta(0), timedelta(seconds=2.002), timedelta(seconds=5.5)]
    assert [entry.url.rpartition("/")[2] for entry in found.entries] == ["a.ts", "b.ts", "c.ts"]
    assert (found.sequence, found.target_s, found.ended) == (7, 2.0, False)


def test_a_discontinuity_without_a_date_ends_the_dates() -> None:
    text = media(
        "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:00Z",
        "#EXTINF:2,",
        "a.ts",
        "#EXT-X-DISCONTINUITY",
        "#EXTINF:2,",
        "b.ts",
    )
    first, second = parse_playlist(text, BASE).entries
    assert (first.date, first.discontinuity) == (NOON, False)
    assert (second.date, second.discontinuity) == (None, True)


def test_every_address_that_a_player_would_fetch_is_listed() -> None:
    text = media(
        '#EXT-X-MAP:URI="/init.mp4"',
        '#EXT-X-KEY:METHOD=AES-128,URI="http://keys.example/k",IV=0x1',
        "#EXTINF:2,",
        "//other.example/a.m4s",
        "#EXT-X-KEY:METHOD=NONE",
        "#EXTINF:2,",
        "../b.m4s",
        "#EXT-X-BYTERANGE:10@0",
        "#EXTINF:2,",
        "c.m4s",
        "#EXT-X-ENDLIST",
    )
    found = parse_playlist(text, BASE)
    assert found.urls == {
        "https://cdn.example/init.mp4",
        "http://keys.example/k",
        "https://other.example/a.m4s",
        "https://cdn.example/b.m4s",
        "https://cdn.example/live/c.m4s",
    }
    assert [entry.whole for entry in found.entries] == [False, True, False]
    assert found.ended


def test_a_master_playlist_has_variants() -> None:
    text = (
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nhi.m3u8"
    )
    found = parse_playlist(text, BASE)
    assert found.variants == (
        "https://cdn.example/live/low.m3u8",
        "https://cdn.example/live/hi.m3u8",
    )
    assert found.entries == ()


@pytest.mark.parametrize("text", ["", "<html>", "ffconcat version 1.0\nfile /etc/passwd"])
def test_other_texts_are_not_playlists(text: str) -> None:
    with pytest.raises(NoStream):
        parse_playlist(text, BASE)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"],
)
def test_an_invalid_date_is_ignored(text: str) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22t12:00:00z",
        '"2026-11-22T12:00:00Z"',
        "2026-11-22T12:00:00 Z",
        "2026-11-22 12:00:00 UTC",
        "2026-11-22T12:00:00+00:00Z",
        "2026-11-23T02:00:00+14:00",
        "2026-11-22T11:59:60Z",
        "2026-11-22T12:00:00.000000000Z",
        "20261122T120000Z",
    ],
)
def test_a_date_in_an_unusual_form_is_read(text: str) -> None:
    assert parse_date(text) == NOON


def test_midnight_may_end_a_day() -> None:
    midnight = datetime(2026, 11, 23, tzinfo=UTC)
    assert parse_date("2026-11-22T24:00:00Z") == parse_date("2026-11-22T24:00Z") == midnight


def test_a_date_before_a_discontinuity_belongs_to_the_segment_after_it() -> None:
    text = media(
        "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:00Z", "#EXT-X-DISCONTINUITY", "#EXTINF:2,", "a"
    )
    (entry,) = parse_playlist(text, BASE).entries
    assert (entry.date, entry.dated, entry.discontinuity) == (NOON, True, True)


@pytest.mark.parametrize("number", ["18446744073709551616", "9" * 400, "-5", "x", "1.5"])
def test_an_impossible_number_does_not_lose_the_playlist(number: str) -> None:
    text = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{number}\n#EXTINF:2,\na.ts"
    found = parse_playlist(text, BASE)
    assert len(found.entries) == 1
    assert found.numbered == (len(number) < 20)


def lengths(said: list[str], dated: dict[int, int], *, target: str = "2") -> list[float]:
    """Return the lengths read; dated: seconds after noon, by segment."""
    lines = ["#EXTM3U", f"#EXT-X-TARGETDURATION:{target}"]
    for n, each in enumerate(said):
        if n in dated:
            date = NOON + timedelta(seconds=dated[n])
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat()}")
        lines += [f"#EXTINF:{each},", f"{n}.ts"]
    return [entry.duration_s for entry in parse_playlist("\n".join(lines), BASE).entries]


EACH_THIRD = {0: 0, 3: 6}


@pytest.mark.parametrize(
    ("said", "dated", "found"),
    [
        pytest.param(["2000"] * 6, {}, [2] * 6, id="milliseconds"),
        pytest.param(["180000"] * 6, EACH_THIRD, [2] * 6, id="ticks"),
        pytest.param(["4"] * 6, EACH_THIRD, [2] * 6, id="doubled"),
        pytest.param(["1.5"] * 6, EACH_THIRD, [2] * 6, id="too short"),
        pytest.param(["4"] * 6, {n: 2 * n for n in range(6)}, [2] * 6, id="doubled, all dated"),
        pytest.param(["2"] * 6, {0: 0, 3: 16}, [2] * 6, id="something is missing"),
        pytest.param(
            ["2"] * 6,
            {0: 0, 1: 2, 2: 4, 3: 1, 4: 3, 5: 5},
            [2] * 6,
            id="a clock set back, all dated",
        ),
        pytest.param(["2"] * 3, {0: 0, 1: 2, 2: 6}, [2] * 3, id="something is missing, all dated"),
        pytest.param(["2.02"] * 6, EACH_THIRD, [2.02] * 6, id="rounded"),
        pytest.param(["4"] * 6, {}, [4] * 6, id="no dates"),
        pytest.param(["4", "4"], {0: 0}, [4, 4], id="one date"),
        pytest.param(["4"] * 6, {0: 6, 3: 0}, [4] * 6, id="dates that go back"),
    ],
)
def test_lengths_add_up_to_the_time_between_dates(
    said: list[str], dated: dict[int, int], found: list[float]
) -> None:
    assert lengths(said, dated) == pytest.approx(found)


def test_attributes_are_read_with_any_separators() -> None:
    value = ' METHOD=AES-128, URI="a,b=c" x,IV=0x1,,IV=0x2,=,KEYFORMAT="open'
    assert attributes_of(value) == {
        "METHOD": "AES-128",
        "URI": "a,b=c",
        "IV": "0x1",
        "KEYFORMAT": "open",
    }


@pytest.mark.parametrize("value", ["A", "A=", 'A="', 'A="",', "=", ",", '"', " ", "A=\t"])
def test_attributes_are_parsed_in_linear_time(value: str) -> None:
    began = time.process_time()
    attributes_of(value * (200_000 // len(value)))
    assert time.process_time() - began < 10.0  # minutes, where each start looks at all that follows


def test_a_playlist_of_six_hours_is_read() -> None:
    address = f"https://cdn.example/{'path/' * 30}"
    text = media(
        *(
            f"#EXTINF:1.000,\n#EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:00.000Z\n"
            f"{address}{n}.ts?token={'t' * 80}"
            for n in range(21_600)
        )
    )
    assert 6_700_000 < len(text) < MAX_PLAYLIST_BYTES
    assert len(parse_playlist(text, BASE).entries) == 21_600


@pytest.mark.parametrize(
    ("text", "base", "says"),
    [
        (media("a\n" * 50_001), BASE, "more than 50000 segments"),
        (media("#\n" * 500_001), BASE, "more than 500000 lines"),
        (
            media("a\n" * 4_000),
            f"https://cdn.example/{8000 * 'x'}/",
            "more than 25165824 characters",
        ),
        (
            media(*(f'#EXT-X-KEY:METHOD=AES-128,URI="{n}"' for n in range(4_000))),
            f"https://cdn.example/{8000 * 'x'}/",
            "more than 25165824 characters",
        ),
        (
            media(*(f'#EXT-X-MAP:URI="{n}"' for n in range(50_001))),
            BASE,
            "more than 50000 keys and maps",
        ),
    ],
    ids=["segments", "lines", "long addresses", "long keys", "maps"],
)
def test_the_size_of_a_playlist_is_limited(text: str, base: str, says: str) -> None:
    with pytest.raises(NoStream, match=says):
        parse_playlist(text, base)


DATED = "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:0{}Z\n#EXTINF:2,\n{}.ts"


@pytest.mark.parametrize("dated", [True, False], ids=["dates", "no dates"])
def test_segments_that_are_listed_twice_count_once(dated: bool) -> None:
    line = DATED if dated else "#EXTINF:2,\n{}.ts"
    twice = [line.format(*[2 * n] * (2 if dated else 1)) for n in range(4) for _ in range(2)]
    found = parse_playlist(media(*twice), BASE).entries
    assert [entry.url.rpartition("/")[2] for entry in found] == [f"{2 * n}.ts" for n in range(4)]
    assert [entry.sequence for entry in found] == [7, 9, 11, 13]


@pytest.mark.parametrize("between", ["#EXT-X-DISCONTINUITY", "#EXTINF:2,\nb.ts"])
def test_a_segment_that_is_shown_again_is_kept(between: str) -> None:
    lines = ["#EXTINF:2,", "a.ts", between, "#EXTINF:2,", "a.ts", "#EXTINF:2,", "c.ts"]
    found = parse_playlist(media(*lines), BASE).entries
    assert sum(entry.url.rpartition("/")[2] == "a.ts" for entry in found) == 2


def test_a_key_that_all_segments_share_counts_once() -> None:
    text = media('#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXT-X-MAP:URI="i"\na\n' * 9_000)
    base = f"https://cdn.example/{'k' * 2000}/"
    assert len(parse_playlist(text, base).entries) == 9_000


@pytest.mark.parametrize("name", ["seg{:05d}.ts", "seg{:05d}.ts?sig=abcdef", "{}", "a/{}/b.m4s"])
@pytest.mark.parametrize("dated", [True, False])
def test_an_address_that_is_written_halfway_is_none(name: str, dated: bool) -> None:
    date = "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:00Z\n" if dated else ""
    names = [name.format(n) for n in range(100, 105)]
    lines = "".join(f"{date}#EXTINF:2.000,\n{each}\n" for each in names)
    text = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:100\n{lines}"
    whole = parse_playlist(text, BASE).entries
    for end in range(text.index(names[1]), len(text)):
        found = parse_playlist(text[:end], BASE).entries
        assert [each.url for each in found] == [each.url for each in whole[: len(found)]]
    assert len(parse_playlist(text[:-1], BASE).entries) == len(names)


ENTRY = "#EXTINF:2,\n{}.ts"


def test_a_delta_update_counts_the_segments_that_it_skips() -> None:
    lines = ("#EXT-X-SKIP:SKIPPED-SEGMENTS=10", "#EXT-X-MEDIA-SEQUENCE:7", ENTRY.format("a"))
    found = parse_playlist(media(*lines), BASE)
    assert (found.sequence, found.entries[0].sequence) == (17, 17)


@pytest.mark.parametrize("iv", ["0x2a", "0X2A", "2a", f"0x{'0' * 40}2a"])
def test_a_key_is_read_however_it_is_written(iv: str) -> None:
    tag = f'#EXT-X-KEY:method=aes-128,uri="k",IV={iv}'
    key = parse_playlist(media(tag, ENTRY.format("a")), BASE).entries[0].key
    assert key is not None
    assert (key.can_decrypt, key.url, key.iv) == (
        True,
        f"{BASE.rpartition('/')[0]}/k",
        b"\0" * 15 + b"*",
    )


def test_what_a_playlist_contains_itself_is_not_fetched() -> None:
    tags = '#EXT-X-KEY:METHOD=AES-128,URI="data:,k"\n#EXT-X-MAP:URI="data:,m"'
    found = parse_playlist(media(tags, ENTRY.format("a")), BASE)
    assert (found.entries[0].map_url, found.entries[0].key.url) == ("data:,m", "data:,k")
    assert found.urls == {found.entries[0].url}


@pytest.mark.parametrize(
    "text",
    [
        "# by a packager\n\n#EXTM3U\n#EXTINF:2,\na.ts\n",
        "#EXT-X-VERSION:3\n#EXTINF:2,\na.ts\n",
        "#EXTM3U\n#EXTINF:2,\na.ts\n<!-- from a cache -->\n",
    ],
    ids=["a remark before it", "no header", "a remark of the server's"],
)
def test_remarks_and_a_missing_header_are_passed_over(text: str) -> None:
    assert len(parse_playlist(text, BASE).entries) == 1


def test_a_playlist_with_the_newest_segment_first_is_turned() -> None:
    lines = ["#EXT-X-MEDIA-SEQUENCE:9"]
    for n in (3, 2, 1):
        lines += [f"#EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:0{2 * n}Z", ENTRY.format(n)]
    found = parse_playlist(media(*lines), BASE).entries
    assert [e.url.rpartition("/")[2] for e in found] == ["1.ts", "2.ts", "3.ts"]
    assert [e.sequence for e in found] == [9, 10, 11]


def test_a_list_of_channels_is_no_stream() -> None:
    text = '#EXTM3U\n#EXTINF:-1 tvg-id="a",A\nhttp://a.test/live.m3u8\n'
    with pytest.raises(NoStream, match="give the URL of one of them"):
        parse_playlist(text, BASE)
    entries = parse_playlist(
        text.replace("#EXTINF", "#EXT-X-TARGETDURATION:2\n#EXTINF"), BASE
    ).entries
    assert len(entries) == 1
