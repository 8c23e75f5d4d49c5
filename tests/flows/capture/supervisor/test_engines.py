from pathlib import Path

import pytest

from flows.capture.hls import pending
from flows.capture.net.address import AddressPolicy
from flows.capture.segment import Segment, UnreadableMedia
from flows.capture.supervisor import recorder
from flows.capture.supervisor.capture import Capture


def test_what_our_engine_can_not_read_ffmpeg_records_and_the_state_says_so(
    origin, stream_of, policy: AddressPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, **_: object) -> None:
        raise UnreadableMedia(f"{path.name}: what no engine of ours reads")

    monkeypatch.setattr(pending, "measure", fail)
    monkeypatch.setattr(pending, "_LOST_S", 0.5)
    monkeypatch.setattr(recorder, "_BACKOFF_S", 0.05)
    capture = Capture(
        origin.url,
        directory=tmp_path / "rec",
        channel="demo",
        broadcast=1,
        policy=policy,
        segment_s=0.5,
        stream=stream_of(origin),
    )
    with capture:
        events = [capture.get(60.0), capture.get(60.0)]
        assert any(isinstance(each, Segment) for each in events), capture.last_error
        state = capture.state
    assert "by ffmpeg, since our engine could read nothing of " in state
