"""Playlists from a given time: of finished and of live recordings."""

import re
from datetime import datetime, timedelta

import pytest

from db.channel_lock import channel_lock
from flows.errors import UsageError
from flows.recordings.clip import clip
from flows.recordings.finding import find
from flows.recordings.play import parse_moment, playlist_at


def test_a_playlist_starts_at_the_given_time_and_ends(
    air, record, engine, recordings_dir, watch
) -> None:
    show = record(air("ts"), (0, 4), (6, 12))
    at = show.segments[2].start + timedelta(seconds=0.25)
    playlist, start = playlist_at(engine, show.slug, at, recordings_dir=recordings_dir)
    assert start == at
    text = playlist.read_text()
    assert "#EXT-X-START:TIME-OFFSET=0.250,PRECISE=YES" in text
    assert text.count("#EXT-X-DISCONTINUITY\n") == 1
    assert "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T19:00:01.000Z" in text
    assert text.endswith("#EXT-X-ENDLIST\n")
    seen = watch(playlist)
    assert len(seen.frame_s) == 8 * 12
    assert list(seen.flash) == [1, 3, 4, 5]


@pytest.mark.parametrize("kind", ["ts", "mp4"])
def test_the_playlist_of_a_show_on_air_grows(
    air, open_show, capture_of, engine, recordings_dir, frames_played, kind: str
) -> None:
    show, channel = open_show(status="live"), air(kind)
    with channel_lock(engine, show.slug, "a watcher"), capture_of(show, channel) as capture:
        first = capture.get(60.0)
        at = first.start
        playlist, _ = playlist_at(engine, show.slug, at, recordings_dir=recordings_dir)
        assert "#EXT-X-ENDLIST" not in playlist.read_text()
        with playlist.open("a") as file:
            file.write("#EXTINF:0.5,\n../00")  # as after a crash
        channel.end = 5
        for _ in range(4):
            capture.get(60.0)
        assert frames_played(playlist) == 5 * 12
        newest, start = playlist_at(engine, show.slug, None, recordings_dir=recordings_dir)
        assert start - at == timedelta(seconds=1)
        assert newest != playlist
    assert playlist.read_text().endswith("#EXT-X-ENDLIST\n")
    assert frames_played(newest) == 3 * 12


def test_without_a_recording_the_error_names_the_nearest(
    air, record, engine, recordings_dir
) -> None:
    show = record(air("ts"), (0, 2), (6, 8))
    where = {"recordings_dir": recordings_dir}
    gap = show.segments[1].end + timedelta(seconds=1)
    with pytest.raises(UsageError, match=r"not recorded: .*; the last before it ends .* and the n"):
        playlist_at(engine, show.slug, gap, **where)
    with pytest.raises(UsageError, match="nothing was recorded then; the next begins 2026"):
        playlist_at(engine, show.slug, gap - timedelta(days=1), **where)


def test_recordings_move_with_their_home(
    air, record, engine, recordings_dir, tmp_path, watch
) -> None:
    show = record(air("ts"), (0, 4))
    first, second = show.segments[0], show.segments[1]
    moved = tmp_path / "a new place" / "recordings"
    moved.parent.mkdir()
    recordings_dir.rename(moved)
    playlist, _ = playlist_at(engine, show.slug, second.start, recordings_dir=moved)
    assert playlist.is_relative_to(moved)
    assert len(watch(playlist).frame_s) == 3 * 12
    found = find(engine, show.slug, first.start, second.end, recordings_dir=moved)
    assert [each.path.parent.parent.parent for each in found.segments] == [moved, moved]
    assert (found.gone, found.elsewhere) == (0, ())
    cuts = clip(
        engine, show.slug, first.start, second.end, tmp_path / "c.mp4", recordings_dir=moved
    )
    assert cuts[0].duration_s == pytest.approx(1.0)
    found.segments[0].path.unlink()
    again = find(engine, show.slug, first.start, second.end, recordings_dir=moved)
    assert (len(again.segments), again.gone) == (1, 1)
    # A user's file of that name is not touched.
    show.folder.mkdir(parents=True)
    first.path.write_bytes(b"x")
    again = find(engine, show.slug, first.start, second.end, recordings_dir=moved)
    assert (again.gone, again.elsewhere) == (0, (str(first.path),))


def test_a_time_of_day_is_its_most_recent_occurrence() -> None:
    before = datetime.now().astimezone()
    for text in ("00:00", "20:15", "23:59:59"):
        moment = parse_moment(text).astimezone()
        assert re.match(text, f"{moment:%H:%M:%S}")
        assert before - timedelta(hours=25) <= moment <= datetime.now().astimezone()
    assert parse_moment("2026-11-22T20:15:00+01:00").isoformat() == "2026-11-22T19:15:00+00:00"
    with pytest.raises(UsageError, match="is not a time"):
        parse_moment("soon")
