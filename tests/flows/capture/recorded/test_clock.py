from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter

from flows.capture.recorded.clock import Clock, ClockState, Section
from flows.capture.recorded.media import TICKS_PER_S, WRAP

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ONE_HOUR = timedelta(hours=1)


def clock(*, first: int = 126_000, source: int | None = 900_000) -> Clock:
    return Clock([Section(date=NOON, estimated=False, input=source)], first)


def after(seconds: float, first: int = 126_000) -> int:
    return first + round(seconds * TICKS_PER_S)


def test_dates_follow_the_timestamps() -> None:
    assert clock().date(126_000) == (NOON, False)
    assert clock().date(after(2.5)) == (NOON + timedelta(seconds=2.5), False)


def test_a_difference_of_one_tick_gives_the_same_date() -> None:
    assert clock().date(after(2) + 1) == clock().date(after(2) - 1) == clock().date(after(2))


def test_a_jump_is_dated_by_its_segment() -> None:
    it = clock()
    # The source's timestamps go back from 910 s to 2 s; ffmpeg compensates.
    section = Section(date=NOON + ONE_HOUR, estimated=False, input=180_000, offset_us=18_000_000)
    it.jump(section, now=after(9))
    assert it.date(after(9.96)) == (NOON + timedelta(seconds=9.96), False)
    assert it.date(after(10)) == (NOON + ONE_HOUR, False)
    assert not it.same_section(after(9.5), after(10.5))


def test_an_unannounced_jump_makes_the_dates_estimated() -> None:
    it = clock()
    it.jump(Section(date=NOON + ONE_HOUR, estimated=True, input=None), now=after(4))
    assert it.date(after(3)) == (NOON + timedelta(seconds=3), False)
    assert it.date(after(5)) == (NOON + timedelta(seconds=5), True)


def test_a_jump_after_an_unreadable_beginning_makes_the_dates_estimated() -> None:
    it = clock(source=None)
    it.jump(Section(date=NOON + ONE_HOUR, estimated=False, input=9), now=after(4))
    assert it.date(after(5)) == (NOON + timedelta(seconds=5), True)


def test_the_timestamp_counter_may_wrap() -> None:
    it = clock(source=WRAP - TICKS_PER_S)
    # Two seconds on, the source's counter has passed zero; its timestamps then jump by an hour.
    section = Section(date=NOON + ONE_HOUR, estimated=False, input=TICKS_PER_S, offset_us=0)
    it.jump(section, now=after(1))
    assert it.date(after(1)) == (NOON + timedelta(seconds=1), False)
    assert it.date(after(2)) == (NOON + ONE_HOUR, False)


def test_a_jump_of_the_audio_alone_is_undone_by_the_video() -> None:
    it = clock()
    for offset_us in (-11_981_503, -4, -11_981_507, 4):
        section = Section(
            date=NOON + timedelta(seconds=20),
            estimated=False,
            input=900_000 + 20 * TICKS_PER_S,
            offset_us=offset_us,
        )
        it.jump(section, now=after(20))
    assert it.date(after(30)) == (NOON + timedelta(seconds=30), False)


def test_audio_that_stays_behind_does_not_move_the_dates() -> None:
    it = clock()
    # With each packet of the audio, for as long as it lasts; the log may end behind any of them.
    offsets = (-12_004_714, -3, -12_004_717, 5, -12_004_720)
    for n, offset_us in enumerate(offsets):
        section = Section(
            date=NOON + timedelta(seconds=20 + 10 * n),
            estimated=False,
            input=900_000 + (20 + 10 * n) * TICKS_PER_S,
            offset_us=offset_us,
        )
        it.jump(section, now=after(20 + 10 * n))
    assert it.date(after(80)) == (NOON + timedelta(seconds=80), False)
    assert len(it.state().sections) == 1


def test_a_shift_moves_what_follows() -> None:
    it = clock()
    it.shift(timedelta(seconds=60), now=after(4))
    assert it.date(after(3)) == (NOON + timedelta(seconds=3), False)
    assert it.date(after(4)) == (NOON + timedelta(seconds=64), True)


def test_the_state_survives_json() -> None:
    it = clock()
    it.shift(timedelta(seconds=60), now=after(4))
    kind = TypeAdapter(ClockState)
    again = Clock.from_state(kind.validate_json(kind.dump_json(it.state())))
    assert [again.date(after(s)) for s in range(9)] == [it.date(after(s)) for s in range(9)]


def test_a_frame_s_timestamp_in_the_source_is_known_up_to_a_jump_that_is_not() -> None:
    it = clock()
    assert it.input_at(after(2)) == 900_000 + 2 * TICKS_PER_S
    section = Section(date=NOON + ONE_HOUR, estimated=False, input=180_000, offset_us=18_000_000)
    it.jump(section, now=after(9))
    assert it.input_at(after(9)) == 900_000 + 9 * TICKS_PER_S
    assert it.input_at(after(10.5)) == 180_000 + TICKS_PER_S // 2
    it.jump(Section(date=NOON + ONE_HOUR, estimated=True, input=None), now=after(12))
    assert it.input_at(after(13)) is None
    assert clock(source=None).input_at(after(1)) is None
    assert clock(source=WRAP - 1).input_at(after(0) + 3) == 2
