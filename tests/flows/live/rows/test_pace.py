import pytest

from flows.live.rows.pace import CALM, LEVELS, MAX_CALM, SOON, Pace

LATE, SO_SO, IN_TIME = 5.0, 2.0, 0.4  # seconds, of segments of 2 s


def _steps(pace: Pace, lags: list[float]) -> list[int]:
    steps = []
    for lag_s in lags:
        pace.update(lag_s, 2.0)
        steps.append(LEVELS.index(pace.level))
    return steps


def test_it_starts_with_all_frames_and_keeps_them_in_time():
    pace = Pace()
    assert pace.is_full
    assert _steps(pace, [IN_TIME, SO_SO] * 20) == [0] * 40


def test_lag_reduces_the_rate_immediately_down_to_keyframes():
    assert _steps(Pace(), [LATE] * 4) == [1, 2, 2, 2]
    levels = [(level.divisor, level.skip) for level in LEVELS]
    assert levels == [(1, "needless"), (2, "nonref"), (1, "nonkey")]


def test_the_rate_rises_stepwise_after_a_time_without_lag():
    pace = Pace()
    _steps(pace, [LATE, LATE])
    assert _steps(pace, [IN_TIME] * 2 * CALM) == [2] * (CALM - 1) + [1] * CALM + [0]


def test_lag_restarts_the_time_without_lag():
    pace = Pace()
    _steps(pace, [LATE])
    assert _steps(pace, [IN_TIME] * (CALM - 1) + [SO_SO] + [IN_TIME] * (CALM - 1)) == [1] * (
        2 * CALM - 1
    )


def test_rising_too_early_doubles_the_wait_up_to_a_limit():
    pace = Pace()
    waits = []
    for _ in range(8):
        _steps(pace, [LATE])
        n = 0
        while LEVELS.index(pace.level) == 1:
            _steps(pace, [IN_TIME])
            n += 1
        waits.append(n)
    assert waits[:3] == [CALM, 2 * CALM, 4 * CALM]
    assert waits[-1] == MAX_CALM


def test_a_late_reduction_does_not_double_the_wait():
    pace = Pace()
    _steps(pace, [LATE] + [IN_TIME] * CALM + [SO_SO] * SOON + [LATE])
    assert _steps(pace, [IN_TIME] * CALM) == [1] * (CALM - 1) + [0]


def test_a_long_time_without_lag_resets_the_wait():
    pace = Pace()
    _steps(pace, [LATE] + [IN_TIME] * CALM + [LATE] + [IN_TIME] * 2 * CALM)
    _steps(pace, [IN_TIME] * (MAX_CALM + 1) + [LATE])
    assert _steps(pace, [IN_TIME] * CALM) == [1] * (CALM - 1) + [0]


def test_levels_for_a_sequence_of_delays():
    lags = [LATE, IN_TIME, SO_SO, IN_TIME, IN_TIME, LATE, LATE] + [IN_TIME] * 30 + [LATE]
    # Immediately down; no five segments without lag before two more steps down; then both steps
    # up after five segments each; the next step down within thirty segments is too early.
    assert _steps(Pace(), lags) == [1] * 5 + [2] * 6 + [1] * 5 + [0] * 21 + [1]


def test_thresholds_of_lag_are_two_segments_and_three_quarters_of_one():
    assert _steps(Pace(), [4.0, 4.001]) == [0, 1]
    pace = Pace()
    _steps(pace, [LATE])
    assert _steps(pace, [1.5] * CALM) == [1] * CALM
    assert _steps(pace, [1.499] * CALM)[-1] == 0


def test_only_changes_are_reported():
    pace = Pace()
    told = [pace.update(lag_s, 2.0) for lag_s in [IN_TIME, LATE, SO_SO, LATE, LATE]]
    assert told == [False, True, False, True, False]
    assert [pace.update(IN_TIME, 2.0) for _ in range(CALM)] == [False] * (CALM - 1) + [True]


@pytest.mark.parametrize(("between", "calm"), [(29, 2 * CALM), (30, CALM)])
def test_going_down_is_too_early_up_to_thirty_segments_after_going_up(between, calm):
    pace = Pace()
    _steps(pace, [LATE] + [IN_TIME] * CALM + [SO_SO] * between + [LATE])
    assert _steps(pace, [IN_TIME] * calm) == [1] * (calm - 1) + [0]


@pytest.mark.parametrize(("quiet", "calm"), [(MAX_CALM - 1, 4 * CALM), (MAX_CALM, 2 * CALM)])
def test_what_was_too_early_is_forgotten_after_a_quiet_time_and_not_before(quiet, calm):
    pace = Pace()
    _steps(pace, [LATE] + [IN_TIME] * CALM + [LATE] + [IN_TIME] * 2 * CALM)
    _steps(pace, [SO_SO] + [IN_TIME] * quiet)
    pace._since_up = 0  # so that stepping down now is too early, too
    _steps(pace, [LATE])
    assert _steps(pace, [IN_TIME] * calm) == [1] * (calm - 1) + [0]
