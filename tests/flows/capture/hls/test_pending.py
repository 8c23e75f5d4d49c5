"""When a stream counts as unreadable."""

from datetime import UTC, datetime

import pytest

from flows.capture.hls.pending import Losses, Pending
from flows.capture.playlists.playlist import parse_playlist

PLAYLIST = "#EXTM3U\n#EXTINF:2,\na.ts\n"


def item(*, unreadable: int) -> Pending:
    entry = parse_playlist(PLAYLIST, "http://cdn.test/").entries[0]
    arrival = datetime(2026, 11, 22, tzinfo=UTC)
    return Pending(
        entry=entry,
        arrival=arrival,
        follows=True,
        repeats=False,
        unreadable=unreadable,
        error="no media",
    )


@pytest.mark.parametrize(("unreadable", "says"), [(3, True), (0, False)])
def test_a_stream_of_which_every_other_segment_can_not_be_read_is_unreadable(
    unreadable: int, says: bool
) -> None:
    losses = Losses()
    for _ in range(6):
        assert losses.unreadable is None
        losses.recorded()
        losses.lost(item(unreadable=unreadable))
    assert bool(losses.unreadable) == says


def test_a_few_unreadable_segments_are_only_lost() -> None:
    losses = Losses()
    for _ in range(9):
        losses.lost(item(unreadable=3))
        for _ in range(2):
            losses.recorded()
    assert losses.unreadable is None
