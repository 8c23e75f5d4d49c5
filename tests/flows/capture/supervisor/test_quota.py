"""A source that exceeds its quota ends its recording."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.capture.net.address import AddressPolicy
from flows.capture.segment import Segment
from flows.capture.supervisor.capture import Capture
from flows.capture.supervisor.quota import Quota, QuotaExceeded
from flows.demo.channel import LiveOrigin

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def segments(tmp_path: Path):
    """Segments of two seconds with this size, as sparse files."""

    def make(n: int, n_bytes: int, duration_s: float = 2.0) -> list[Segment]:
        made = []
        for sequence in range(n):
            path = tmp_path / f"0001-20261122T120000Z-{sequence:06d}.ts"
            with path.open("wb") as file:
                file.truncate(n_bytes)
            made.append(
                Segment(
                    channel="c",
                    broadcast=1,
                    sequence=sequence,
                    start=NOON + timedelta(seconds=2 * sequence),
                    start_is_estimated=False,
                    duration_s=duration_s,
                    path=path,
                    width_px=0,
                    height_px=0,
                )
            )
        return made

    return make


def test_a_rate_is_a_mean_over_a_minute(segments) -> None:
    fine = Quota(mbits_per_s=8)
    for each in segments(300, 2_000_000):
        fine.count([each])
    burst = Quota(mbits_per_s=8)
    burst.count(segments(9, 2_200_000))
    with pytest.raises(QuotaExceeded, match="9 Mbit/s, more than 8"):
        burst.count(segments(1, 3_000_000))


def test_the_number_of_segments_is_limited(segments) -> None:
    quota = Quota()
    quota.count(segments(1200, 10, 0.04))
    with pytest.raises(QuotaExceeded, match="segments a minute"):
        quota.count(segments(1, 10, 0.04))


def test_what_was_recorded_before_counts(segments, tmp_path: Path) -> None:
    segments(5, 1_000_000)
    (tmp_path / "events.jsonl").write_text("x")
    quota = Quota(total_bytes=6_000_000)
    quota.begin(tmp_path)
    quota.count(segments(1, 1_000_000))
    with pytest.raises(QuotaExceeded, match=r"7\.0 GB|0\.0 GB"):
        quota.count(segments(1, 1_000_000))


def test_separate_audio_counts(segments, tmp_path: Path) -> None:
    quota = Quota(total_bytes=6_000_000)
    quota.begin(tmp_path)
    (tmp_path / "audio").mkdir()
    with (tmp_path / "audio" / "0001-20261122T120000Z-000000+0x1.ts").open("wb") as file:
        file.truncate(6_000_000)
    with pytest.raises(QuotaExceeded):
        quota.count(segments(40, 1))


@pytest.mark.parametrize("engine", ["hls", "ffmpeg"])
def test_recording_ends_at_the_quota_with_its_reason(
    origin: LiveOrigin, policy: AddressPolicy, stream_of, tmp_path: Path, engine: str
) -> None:
    with Capture(
        origin.url,
        directory=tmp_path / "rec",
        channel="demo",
        broadcast=1,
        policy=policy,
        segment_s=0.5,
        stream=stream_of(origin),
        engine=engine,
        quota=Quota(total_bytes=1),
    ) as capture:
        first = capture.get(60.0)
        while not capture.finished:
            capture.get(1.0)
    assert isinstance(first, Segment)
    assert isinstance(capture.failure, QuotaExceeded)
    assert capture.restarts == 0
