import random
import time
from itertools import pairwise

import pytest

from flows.capture.hls.pacing import Pacing
from flows.capture.segment import SourceUnreachable


def ask(
    pace_s: float,
    phase_s: float,
    *,
    jitter_s: float = 0.0,
    n: int = 200,
    few: bool = False,
    pacing: Pacing | None = None,
):
    """Poll a source that grows at a constant rate; return times, results and delays."""
    rng, pacing = random.Random(1), pacing or Pacing()
    pacing.target_s = pacing.last_s = pace_s
    pacing.lists_few = few
    begins = 1000.0
    grows = [begins + phase_s + pace_s * k + rng.uniform(0, jitter_s) for k in range(3 * n)]
    now, known, asked = begins + 5 * pace_s, 0, []
    for _ in range(n):
        listed = sum(at <= now for at in grows)
        late_s = now - grows[listed - 1]
        asked.append((now, listed > known, late_s))
        (pacing.grew if listed > known else pacing.stayed)(now)
        known = listed
        now = max(pacing.due_at, now) + rng.uniform(0, 0.04)
    return asked


@pytest.mark.parametrize("pace_s", [0.5, 2.0, 6.0])
@pytest.mark.parametrize("phase_s", [0.05, 0.7, 1.6])
@pytest.mark.parametrize("jitter_s", [0.0, 0.1])
def test_a_playlist_is_polled_at_the_allowed_rate_and_soon_after_it_has_grown(
    pace_s: float, phase_s: float, jitter_s: float
) -> None:
    asked = ask(pace_s, phase_s % pace_s, jitter_s=jitter_s)
    for (before, grew, _), (after, _, _) in pairwise(asked):
        assert after - before >= (0.92 if grew else 0.5) * pace_s
    late = sorted(late_s for _, grew, late_s in asked[40:] if grew)
    assert late[len(late) // 2] < 0.12 * pace_s + 0.15
    assert len([each for each in asked if not each[1]]) < 0.2 * len(asked)


@pytest.mark.parametrize("phase_s", [0.05, 0.3, 0.7, 1.6, 1.95])
def test_no_segment_of_a_playlist_that_lists_one_is_missed(phase_s: float) -> None:
    asked = ask(2.0, phase_s, few=True)
    listed = [round((now - late_s - 1000.0 - phase_s) / 2) for now, _, late_s in asked]
    assert all(after - before <= 1 for before, after in pairwise(listed))
    assert all(after[0] - before[0] >= 1.0 for before, after in pairwise(asked))


@pytest.mark.parametrize("phase_s", [0.05, 0.7, 1.6])
@pytest.mark.parametrize("few", [False, True])
def test_a_server_that_has_refused_too_many_requests_gets_no_early_one(
    phase_s: float, few: bool
) -> None:
    pacing = Pacing()
    pacing.failed(SourceUnreachable("too many", status=429, retry_after_s=6.0))
    pacing.begin()  # another run
    asked = ask(2.0, phase_s, few=few, pacing=pacing)
    assert all(after - at >= (2 if grew else 1) for (at, grew, _), (after, *_) in pairwise(asked))


def test_retry_after_delays_polling() -> None:
    pacing = Pacing()
    begin = time.monotonic()
    pacing.failed(SourceUnreachable("busy", status=503, retry_after_s=40.0))
    assert pacing.due_at >= begin + 40
    pacing.begin()  # another run
    assert pacing.due_at >= begin + 40
    pacing.stayed(begin + 41)
    for _ in range(4):
        pacing.failed(SourceUnreachable("too many", status=429))
    assert pacing.due_at >= time.monotonic() + 15


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_0_is_no_permission_to_hammer(status: int) -> None:
    pacing = Pacing()
    for least_s in (0.1, 0.3, 0.7):
        begin = time.monotonic()
        pacing.failed(SourceUnreachable("busy", status=status, retry_after_s=0.0))
        assert pacing.due_at >= begin + least_s
