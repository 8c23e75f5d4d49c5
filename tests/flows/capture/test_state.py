"""A damaged state file, as after a power loss, costs at most estimated dates."""

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from flows.capture.hls.listing import Listing
from flows.capture.net.address import AddressPolicy
from flows.capture.recorded import playback_playlists
from flows.capture.recorded.recording import Recording
from flows.capture.recorded.recovery import recover
from flows.capture.recorded.runs import newest_clock
from flows.capture.segment import Gap, Segment
from flows.capture.state import write_whole
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin

PATIENCE_S = 60.0

DAMAGES = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "zeros in it": lambda data: data[:-20] + bytes(20),
    "no object": lambda data: b"[3]\n",
    "null": lambda data: b"null\n",
    "other types": lambda data: data.replace(b":", b':{"x":').replace(b",", b"},") + b"}",
    "text": lambda data: b"\xff\xfe\n",
}


def test_a_file_is_synced_before_and_its_folder_after_the_renaming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    sync, path = os.fsync, tmp_path / "state.json"

    def watch(handle: int) -> None:
        seen.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        seen.append(path.read_text())
        sync(handle)

    path.write_text("old")
    monkeypatch.setattr(os, "fsync", watch)
    write_whole(path, "new")
    assert seen == ["state.json.tmp", "old", tmp_path.name, "new"]


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [(path.name, "old")]


@pytest.fixture(scope="module")
def record(
    pieces: Path, policy: AddressPolicy, stream_of: Callable[[LiveOrigin], Stream]
) -> Iterator[Callable[[Path], list[Segment | Gap]]]:
    """Record two more segments of a show without loss."""
    with LiveOrigin(pieces, window=200) as origin:

        def make(folder: Path) -> list[Segment | Gap]:
            with Capture(
                origin.url,
                directory=folder,
                channel="demo",
                broadcast=1,
                policy=policy,
                stream=stream_of(origin),
                engine="hls",
            ) as capture:
                events = [capture.get(PATIENCE_S) for _ in range(2)]
                capture.stop()
                events += list(capture)
            assert None not in events, capture.last_error
            return events

        yield make


@pytest.fixture(scope="module")
def recorded(record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "rec"
    record(folder)
    return folder


@pytest.fixture
def folder(recorded: Path, tmp_path: Path) -> Path:
    """A broadcast's directory, with a few segments."""
    shutil.copytree(recorded, tmp_path / "rec")
    return tmp_path / "rec"


def recovered(folder: Path) -> list[Segment | Gap]:
    return list(recover(folder, channel="demo", broadcast=1))


@pytest.fixture(params=DAMAGES.values(), ids=DAMAGES.keys())
def damage(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    return request.param


def test_all_is_recovered_from_damaged_files(folder: Path, damage) -> None:
    events = recovered(folder)
    states = [*folder.glob("*.json"), *folder.glob("*.m3u8")]
    assert len(states) == 3
    for path in states:
        path.write_bytes(damage(path.read_bytes()))
    (folder / "ffmpeg.pid").write_bytes(damage(b'{"pid": 1, "owner": 1}'))
    assert recovered(folder) == events
    recording = Recording(folder, channel="demo", broadcast=1)
    assert Listing(recording).sequence is None
    assert newest_clock(folder) is None
    assert recording.new_run(events[-1].end).startswith("0002-")


@pytest.mark.parametrize("damage", [DAMAGES["empty"], DAMAGES["zeros"]], ids=["empty", "zeros"])
def test_a_recording_continues_from_damaged_files_without_loss(
    folder: Path, damage: Callable[[bytes], bytes], record
) -> None:
    events = recovered(folder)
    for path in [*folder.glob("*.json"), *folder.glob("*.m3u8"), folder / "ffmpeg.pid"]:
        path.write_bytes(damage(b"x" * 200))
    events += record(folder)
    assert all(isinstance(event, Segment) for event in events)
    assert all(a.end == b.start for a, b in pairwise(events))
    assert recovered(folder) == events


def test_a_damaged_line_of_the_journal_loses_no_other_line(folder: Path, damage) -> None:
    first, *others = recovered(folder)
    journal = folder / "events.jsonl"
    line, *lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(damage(line).rstrip(b"\n") + b"\n" + b"".join(lines))
    assert recovered(folder) == others
    assert first.path.exists()
    assert Recording(folder, channel="demo", broadcast=1).last == others[-1]


def test_a_damaged_end_of_the_journal_is_removed(folder: Path) -> None:
    events = recovered(folder)
    journal = folder / "events.jsonl"
    journal.write_bytes(journal.read_bytes() + bytes(4096))
    assert recovered(folder) == events
    Recording(folder, channel="demo", broadcast=1).add_gap(
        Gap(start=events[-1].end, end=events[-1].end, why="x")
    )
    assert len(recovered(folder)) == len(events) + 1


def test_a_damaged_local_playlist_does_not_stop_recording(folder: Path, damage) -> None:
    followed = folder / "play" / "20261122T190000Z.m3u8"
    followed.parent.mkdir()
    followed.write_bytes(damage(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n../x.ts\n"))
    playback_playlists.names_in(followed)
    playback_playlists.follow(folder, recovered(folder))
    playback_playlists.trim(folder, {"x.ts"}, current=None)
    playback_playlists.end(folder)
