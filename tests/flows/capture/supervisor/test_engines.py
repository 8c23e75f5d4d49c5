import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from flows.capture.hls import pending
from flows.capture.net.address import AddressPolicy
from flows.capture.segment import Segment
from flows.capture.supervisor import recorder
from flows.capture.supervisor.capture import Capture
from flows.demo.packaging import Packaging
from flows.demo.server import Reply


class Stamped(Packaging):
    """Packets of 192 bytes (M2TS). newest: number of the segment that was listed last at first."""

    newest: int | None = None

    def playlist(self, text: str) -> str:
        if self.newest is None:
            self.newest = int(re.findall(r"segment-(\d+)", text)[-1])
        return text

    def segment(self, path: str, reply: Reply) -> Reply:
        packets = [reply.body[at : at + 188] for at in range(0, len(reply.body), 188)]
        stamped = [n.to_bytes(4, "big") + packet for n, packet in enumerate(packets)]
        return replace(reply, body=b"".join(stamped))


def test_what_our_engine_can_not_read_ffmpeg_records_and_the_state_says_so(
    origin, stream_of, policy: AddressPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaging = Stamped()
    origin.pack(packaging)
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
        first = capture.get(60.0)
        assert isinstance(first, Segment), capture.last_error
        state = capture.state
    assert first.start < origin.start_of(packaging.newest + 1) + timedelta(milliseconds=2)
    assert "by ffmpeg, since our engine could read nothing of " in state
