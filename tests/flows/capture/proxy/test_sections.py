"""Where a run of ffmpeg must end, as it reads one container and initialisation section."""

from collections.abc import Iterator

import pytest

from flows.capture.hls.pieces import Pieces
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.playlist import Entry, parse_playlist
from flows.capture.proxy.sections import Sections
from flows.capture.segment import SourceUnreachable
from tests.flows.capture.conftest import Site

TS = (b"\x47" + bytes(187)) * 3
MAP = '#EXT-X-MAP:URI="init.mp4"\n'
CUT = "#EXT-X-DISCONTINUITY\n"


@pytest.fixture
def files(site: Site) -> dict[str, bytes]:
    made = {"/init.mp4": b"\0\0\0\x08ftypold"} | {f"/{n}.m4s": bytes(400) for n in range(9)}
    made |= {f"/{n}.ts": TS for n in range(9)}
    site.answer = lambda asked: made.get(asked.path, 404)
    return made


@pytest.fixture
def pieces(policy: AddressPolicy) -> Iterator[Pieces]:
    with Fetcher(policy) as fetcher:
        yield Pieces(fetcher)


def listed(site: Site, *lines: str) -> tuple[Entry, ...]:
    text = "#EXTM3U\n" + "\n".join(lines)
    return parse_playlist(text, f"{site.base}/live.m3u8").entries


def cut(sections: Sections, entries: tuple[Entry, ...], pieces: Pieces) -> tuple[int, bool]:
    found, ends = sections.cut(entries, {each: each.sequence for each in entries}, pieces)
    return len(found), ends


def lines_of(first: int, n: int, *, suffix: str = "m4s") -> list[str]:
    return [f"#EXTINF:2,\n{each}.{suffix}" for each in range(first, first + n)]


@pytest.mark.parametrize(
    ("second", "n"),
    [
        pytest.param(lines_of(2, 2, suffix="ts"), 2, id="MPEG-TS, which no tag says"),
        pytest.param(lines_of(2, 2), 4, id="a discontinuity"),
    ],
)
def test_a_run_ends_before_another_container(
    second: list[str], n: int, site: Site, files: dict[str, bytes], pieces: Pieces
) -> None:
    sections = Sections()
    entries = listed(site, MAP, *lines_of(0, 2), CUT, *second)
    assert cut(sections, entries[:1], pieces) == (1, False)
    assert cut(sections, entries, pieces) == (n, n == 2)
    n_asked = len(site.asked)
    assert cut(sections, entries, pieces) == (n, n == 2)
    assert len(site.asked) == n_asked  # each is looked at once
    after = Sections()
    assert cut(after, entries[n:], pieces) == (4 - n, False)


def test_mpeg_ts_after_fmp4_is_listed_without_the_init_section(
    site: Site, files: dict[str, bytes], pieces: Pieces
) -> None:
    entries = listed(site, MAP, *lines_of(0, 2, suffix="ts"))
    found, ends = Sections().cut(entries, {}, pieces)
    assert [each.init for each in found] == [None, None]
    assert not ends


def test_a_run_ends_where_the_init_section_is_another(
    site: Site, files: dict[str, bytes], pieces: Pieces
) -> None:
    sections = Sections()
    first = [MAP, *lines_of(0, 2)]
    assert cut(sections, listed(site, *first), pieces) == (2, False)
    files["/init.mp4"] = b"\0\0\0\x08ftypnew"
    entries = listed(site, *first, CUT, MAP, *lines_of(2, 2))
    assert cut(sections, entries, pieces) == (2, True)
    assert cut(Sections(), entries[2:], pieces) == (2, False)


def init_with(parameters: bytes, *, made_at: bytes = b"noon") -> bytes:
    box = (8 + len(parameters)).to_bytes(4, "big") + b"avcC" + parameters
    return b"\0\0\0\x08ftyp" + made_at + box + made_at


@pytest.mark.parametrize(
    ("look_s", "tag", "ends"), [(0.0, "", True), (1e9, MAP, True), (1e9, "", False)]
)
def test_a_run_ends_where_another_init_section_is_at_the_address(
    look_s: float, tag: str, ends: bool, site: Site, files: dict[str, bytes], pieces: Pieces
) -> None:
    sections = Sections(look_s=look_s)
    files["/init.mp4"] = init_with(b"old")
    assert cut(sections, listed(site, MAP, *lines_of(0, 2)), pieces) == (2, False)
    files["/init.mp4"] = init_with(b"old", made_at=b"late")
    assert cut(sections, listed(site, MAP, *lines_of(0, 3)), pieces) == (3, False)
    files["/init.mp4"] = init_with(b"new")
    entries = listed(site, MAP, *lines_of(0, 3), tag, *lines_of(3, 1))
    assert cut(sections, entries, pieces) == (3 if ends else 4, ends)


@pytest.mark.parametrize("answer", [None, b"\0\0\0\x08oops"], ids=["away", "no init section"])
def test_an_init_section_that_can_not_be_read_again_ends_nothing(
    answer: bytes | None, site: Site, files: dict[str, bytes], pieces: Pieces
) -> None:
    sections = Sections(look_s=0.0)
    files["/init.mp4"] = init_with(b"old")
    assert cut(sections, listed(site, MAP, *lines_of(0, 2)), pieces) == (2, False)
    files |= {"/init.mp4": answer} if answer else {}
    if answer is None:
        del files["/init.mp4"]
    for n in (3, 4):
        assert cut(sections, listed(site, MAP, *lines_of(0, n)), pieces) == (n, False)
    n_asked = [asked.path for asked in site.asked].count("/init.mp4")
    assert n_asked == (3 if answer is None else 4)


def test_an_init_section_that_is_away_is_asked_for_again(
    site: Site, files: dict[str, bytes], pieces: Pieces
) -> None:
    sections = Sections()
    entries = listed(site, MAP, *lines_of(0, 2), CUT, MAP, *lines_of(2, 1))
    init = files.pop("/init.mp4")
    with pytest.raises(SourceUnreachable):
        cut(sections, entries[:2], pieces)
    files["/init.mp4"] = init
    assert cut(sections, entries[:2], pieces) == (2, False)
    del files["/init.mp4"]
    assert cut(sections, entries, pieces) == (2, False)
    files["/init.mp4"] = init
    assert cut(sections, entries, pieces) == (3, False)


def test_tables_apart_are_no_other_container(
    site: Site, files: dict[str, bytes], pieces: Pieces
) -> None:
    tables = '#EXT-X-MAP:URI="tables.ts"\n'
    entries = listed(site, *lines_of(0, 2, suffix="ts"), tables, *lines_of(2, 2, suffix="ts"))
    assert cut(Sections(), entries, pieces) == (4, False)


def test_a_segment_found_to_be_in_another_container_ends_the_run(
    site: Site, files: dict[str, bytes], pieces: Pieces
) -> None:
    sections = Sections()
    entries = listed(site, MAP, *lines_of(0, 4))
    assert cut(sections, entries, pieces) == (4, False)
    sections.refuse(entries[2])
    assert cut(sections, entries, pieces) == (2, True)
